"""Learned masks that start alive and move alike in models of every size (docs/masks.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.masks.learned import LearnedMask

MEAN = 0.1
"""Mean of a scaled mask: that of PyTorch's initialisation where it is not dead, for which the
published values of β were chosen. It is 0.094 if the merged value is normal with variance 1/18."""

CONSTANT = 1e-5
"""Scores that vary less than this, relative to the terms they sum, are equal for all tokens."""

ROUNDING = 1e-6
"""Thresholds that differ by less, relative to the largest score, are the same."""

HALVINGS = 60
"""Steps of a bisection; float32 has 24 bits."""


@torch.no_grad()
def scale_mask(
    mask: LearnedMask, hidden_states: Sequence[Float[Tensor, "N d"]], sparsity: float
) -> None:
    """Scale and shift a newly drawn mask until it is alive on given states, in place [ours].

    The directions w_l stay as drawn. Each layer's score gets mean 0 and standard deviation 1 over
    the tokens; half of the layers, those with the largest drawn o_l, raise the mask (o_l > 0) and
    the others lower it; one shift of all thresholds sets the share of zeros; and one factor sets
    the mean of the mask to MEAN.

    Args:
        mask: a new mask.
        hidden_states: states of N response tokens, as in `LearnedMask.forward`.
        sparsity: share of zeros among these tokens, in percent, from 0 to 100; at least one token
            is not 0. Tokens with equal states share their value, so the share may be lower.
    """
    training = mask.training
    mask.eval()
    scores = torch.stack(list(mask.scores(hidden_states)), -1)
    mean, spread = scores.mean(0), scores.std(0, correction=0)
    spread = torch.where(spread > CONSTANT * _terms(mask, hidden_states), spread, 1.0)
    scores = (scores - mean) / spread
    signs = torch.ones_like(mean)
    if mask.layers == "all":
        order = mask.mixer.weight[0].argsort(descending=True)
        signs[order[(len(order) + 1) // 2 :]] = -1.0
        mask.mixer.weight.copy_(signs / math.sqrt(len(order)))
    shift = signs * _threshold(mask, scores, signs, sparsity)
    for network, centre, scale, offset in zip(mask.networks, mean, spread, shift, strict=True):
        network.output.weight.div_(scale)
        network.output.bias.sub_(centre).div_(scale).sub_(offset)
    # Of the new weights themselves: where states are much alike, their rounding is not negligible.
    factor = MEAN / mask.merge(mask.scores(hidden_states)).relu().mean()
    if mask.layers == "all":
        mask.mixer.weight.mul_(factor)
    else:
        mask.output.weight.mul_(factor)
        mask.output.bias.mul_(factor)
    mask.train(training)


def _terms(
    mask: LearnedMask, hidden_states: Sequence[Float[Tensor, "N d"]]
) -> Float[Tensor, " layers"]:
    """Return the largest Σ|w||x| of each score, which its rounding errors are relative to."""
    found = []
    for network, state in mask.inputs(hidden_states):
        terms = state.abs() @ network.input.weight.abs().T
        if network.output is not network.input:
            terms = terms @ network.output.weight.abs().T
        found.append(terms.amax())
    return torch.stack(found)


def _threshold(
    mask: LearnedMask,
    scores: Float[Tensor, "N layers"],
    signs: Float[Tensor, " layers"],
    sparsity: float,
) -> Float[Tensor, ""]:
    """Return what raising layers lose, and lowering ones gain, for a share of tokens to be 0."""
    # A token's value falls as the threshold rises; each has its own at which it becomes 0.
    bound = 1 + scores.abs().amax()
    low, high = (sign * bound.expand(len(scores)).clone() for sign in (-1, 1))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        value = mask.merge((scores - middle[:, None] * signs).unbind(-1))
        low = torch.where(value > 0, middle, low)
        high = torch.where(value > 0, high, middle)
    limits = high.sort().values
    upper = limits[min(round(sparsity / 100 * len(limits)), len(limits) - 1)]
    # Equal states may differ by rounding.
    below = limits[limits < upper - ROUNDING * bound]
    return (upper + (below[-1] if len(below) else upper - 1)) / 2


@torch.no_grad()
def relative_step(mask: LearnedMask) -> float:
    """Return the learning rate at which a sign-like step may change a mask by its own size.

    rms(w)/√n, where w are all n weights that read hidden states: n steps of this size that agree
    with their inputs in sign add up to √n·rms(w), the size of w·x for inputs of size 1.

    Source: as maximal update parametrization has it for a readout, arXiv 2203.03466 [ours].
    """
    weights = torch.cat([network.input.weight.flatten() for network in mask.networks])
    return float(weights.square().mean().sqrt()) / math.sqrt(weights.numel())
