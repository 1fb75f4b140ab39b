"""DPO with a weight per token that comes with the data, or from where a reader looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    logistic_output,
    required,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats

_LONG = 5
"""Responses from this many tokens on have their first weight replaced."""


@dataclass(frozen=True)
class WeightedDPO(Method):
    """DPO on log-ratios with given weights: the core of TI-DPO and TwDPO.

    L = −log σ(β[Σ ω r_w − Σ ω r_l]), ω from the file of `token_weights`. With
    `normalisation="attention"` ω is divided by its sum; then, in responses of five and more tokens,
    the first token gets 1/n and the others are rescaled to the rest. Implicit reward: β Σ ω r.
    Source: arXiv 2505.19653, equation 12 without its triplet; arXiv 2605.21883, authors' code.
    """

    name: ClassVar[str] = "weighted-dpo"
    title: ClassVar[str] = "Weighted DPO"
    source: ClassVar[str] = "arXiv 2505.19653 and 2605.21883"
    needs: ClassVar[Needs] = Needs(token_weights=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    flat: ClassVar[bool] = True

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="arXiv 2505.19653", low=0, open_low=True
    )
    normalisation: str = hyper_parameter(
        "none",
        "What is done to the weights.",
        source="[ours]; attention as in the code of arXiv 2605.21883",
        choices=("none", "attention"),
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and token_weights are read."""
        weights = self.weights(chosen), self.weights(rejected)
        rewards = log_ratio_rewards(chosen, rejected, self.beta, weights)
        return logistic_output(rewards[0] - rewards[1], *rewards)

    def weights(self, stats: TokenStats) -> Float[Tensor, "B T"]:
        """Return ω, (B, T)."""
        given = required(stats.token_weights, "token_weights").detach()
        if self.normalisation == "none":
            return given
        inside = stats.response_mask.bool()
        weights = torch.where(inside, given, 0.0)
        weights = weights / weights.sum(-1, keepdim=True)
        length = inside.sum(-1, keepdim=True)
        first = inside & (inside.cumsum(-1) == 1)
        others = weights.masked_fill(first, 0.0)
        share = 1 / length
        rescaled = others * (1 - share) / others.sum(-1, keepdim=True)
        return torch.where(length >= _LONG, torch.where(first, share, rescaled), weights)
