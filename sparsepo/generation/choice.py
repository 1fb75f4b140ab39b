"""Chooses the next token of each row of a batch: greedily, or by the row's own random numbers.

A token is drawn by descending a binary tree over the vocabulary. At each node the left part is
taken if u·(left + right) < left, with a random number u of this level. The result has exactly the
softmax distribution. Compared with one number and a cumulative sum over the vocabulary, the last
bits of the probabilities matter far less: only about log₂ V comparisons can be decided by them,
instead of V, and these bits do differ between batch sizes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsepo.errors import DivergedError

_FIRST_TOP = 128
"""Probabilities of a row that are sorted at first to find its nucleus; nearly always enough."""


def levels(vocabulary: int) -> int:
    """Return the random numbers that one choice needs: ⌈log₂ V⌉."""
    return max(1, (vocabulary - 1).bit_length())


def greedy_tokens(logits: Tensor) -> Tensor:
    """Return the most probable token of each row, the first of equal ones.

    Args:
        logits: (rows, vocabulary), float32.

    Returns:
        (rows,), int64.

    Raises:
        DivergedError: a row has NaN or +∞.
    """
    # Both together take less time than max() with its indices.
    require_finite(logits.amax(dim=-1))
    return logits.argmax(dim=-1)


def drawn_tokens(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draw a token of each row from softmax(logits / temperature), or from its nucleus.

    Args:
        logits: (rows, vocabulary), float32.
        uniforms: random numbers in [0, 1), (rows, levels(vocabulary)), float64.
        temperature: above 0.
        top_p: the nucleus' share of probability, in (0, 1].

    Returns:
        (rows,), int64.

    Raises:
        DivergedError: a row has no finite probabilities.
    """
    probabilities = (logits if temperature == 1.0 else logits / temperature).softmax(dim=-1)
    if top_p < 1.0:
        probabilities = nucleus(probabilities, top_p)
    sums = fold(probabilities)
    require_finite(sums[-1])
    return descend(sums, uniforms)[:, 0]


def fold(weights: Tensor) -> list[Tensor]:
    """Return the levels of the tree over some weights, from the leaves to the root.

    Args:
        weights: (rows, leaves).

    Returns:
        Tensors of (rows, nodes); node j of a level is the sum of j and j + nodes of the one before.
    """
    sums = [weights]
    while sums[-1].shape[1] > 1:
        whole = sums[-1]
        half = (whole.shape[1] + 1) // 2
        folded = whole[:, :half].clone()
        # Of an odd number of nodes, the last left one has no right partner.
        folded[:, : whole.shape[1] - half] += whole[:, half:]
        sums.append(folded)
    return sums


def descend(sums: list[Tensor], uniforms: Tensor) -> Tensor:
    """Draw a leaf of each row, in proportion to its weight.

    Args:
        sums: the levels, as `fold` returns them.
        uniforms: random numbers in [0, 1), a column per level from the root on, float64.

    Returns:
        (rows, 1), int64.
    """
    leaves = sums[0]
    node = torch.zeros(len(leaves), 1, dtype=torch.long, device=leaves.device)
    for level, whole in enumerate(reversed(sums[:-1])):
        half = (whole.shape[1] + 1) // 2
        left = whole.gather(1, node).double()
        both = sums[len(sums) - 1 - level].gather(1, node).double()
        node = node + half * (uniforms[:, level : level + 1] * both >= left)
    return node


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Set the probability of all tokens outside the nucleus to 0.

    The nucleus is the smallest set of the most probable tokens with at least `top_p` of the
    probability, and all tokens that are exactly as probable as its least probable one. The order of
    equal tokens therefore does not matter.

    Args:
        probabilities: (rows, vocabulary).
        top_p: in (0, 1).

    Returns:
        (rows, vocabulary); the rows do not sum to 1.

    Source: Holtzman et al., *The curious case of neural text degeneration* (2020).
    """
    count = min(_FIRST_TOP, probabilities.shape[1])
    # So many tokens cannot be a nucleus if even the most probable one has too little for that.
    wide = probabilities.amax(dim=-1) * count < top_p
    edge = probabilities.new_empty(len(probabilities), 1)
    if not bool(wide.all()):
        edge, size = _edge(probabilities.topk(count, dim=-1).values, top_p)
        wide = size == count
    if bool(wide.any()):
        edge[wide], _ = _edge(_descending(probabilities[wide]), top_p)
    return torch.where(probabilities < edge, 0.0, probabilities)


def _edge(largest: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the least probability in each row's nucleus, (rows, 1), and its size, (rows,).

    Args:
        largest: the largest probabilities of each row, in descending order; the nucleus reaches
            beyond them if its size is their number.
        top_p: the nucleus' share.
    """
    largest_double = largest.double()
    before = largest_double.cumsum(dim=-1) - largest_double
    size = (before < top_p).sum(dim=-1)
    # NaN is nowhere below top_p; the caller reports it.
    return largest.gather(1, size.clamp(min=1)[:, None] - 1), size


def _descending(values: Tensor) -> Tensor:
    """Sort rows."""
    if values.device.type == "cpu":
        # Several times as fast as torch, which sorts the indices too.
        return torch.from_numpy(-np.sort(-values.numpy(), axis=-1))
    return values.sort(dim=-1, descending=True).values


def require_finite(values: Tensor) -> None:
    """Raise a DivergedError if a value is NaN or infinite."""
    if not bool(torch.isfinite(values).all()):
        raise DivergedError(
            "The model gives probabilities that are not finite; train it again with a lower "
            "learning rate."
        )
