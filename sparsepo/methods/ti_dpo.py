"""TI-DPO's weighted loss: tokens weigh by their influence on the last prediction, and place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

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


@dataclass(frozen=True)
class TIDPO(Method):
    """DPO in which tokens count by their influence on the response's last prediction.

    L = −log σ(β[Σ W r_w − Σ W r_l]), W = λ I/Σ I + (1−λ) P; I_t = ‖∂ largest logit at the last
    token / ∂ embedding of y_t‖₁ by the policy, P a normal density over the places 0 … n−1 of a
    response, of mean (n−1)/2 and standard deviation n/4, with sum 1. No gradient flows through W.
    The article's triplet term, which needs samples during training, is left out: this is its
    ablation without it. Implicit reward: β Σ W r. Source: arXiv 2505.19653, equations 5 to 8.
    """

    name: ClassVar[str] = "ti-dpo"
    title: ClassVar[str] = "TI-DPO (no triplet)"
    source: ClassVar[str] = "arXiv 2505.19653, equations 5 to 8, without the triplet term"
    needs: ClassVar[Needs] = Needs(importance=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[paper] table B13", low=0, open_low=True
    )
    lam: float = hyper_parameter(
        0.7,
        "λ, share of the influence in the weights; the rest is the place.",
        source="[paper] table B13",
        low=0,
        high=1,
    )
    total: Literal["one", "length"] = hyper_parameter(
        "one",
        "Sum of a response's weights: 1, or its number of tokens, as for DPO.",
        source="[ours]: equation 8 with P of sum 1; whether P is normalised is not said",
        choices=("one", "length"),
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and importance are read."""
        weights = self.weights(chosen), self.weights(rejected)
        rewards = log_ratio_rewards(chosen, rejected, self.beta, weights)
        return logistic_output(rewards[0] - rewards[1], *rewards)

    def weights(self, stats: TokenStats) -> Float[Tensor, "B T"]:
        """Return W, (B, T), 0 on padding."""
        inside = stats.response_mask.bool()
        given = required(stats.importance, "importance").detach()
        influence = torch.where(inside, given, 0.0)
        length = inside.sum(-1, keepdim=True)
        place = inside.cumsum(-1) - 1
        distance = (place - (length - 1) / 2) / (length / 4)
        density = torch.where(inside, (-distance.square() / 2).exp(), 0.0).to(influence.dtype)
        # A last prediction that no token influences leaves the place alone.
        least = torch.finfo(influence.dtype).tiny
        influence = influence / influence.sum(-1, keepdim=True).clamp(min=least)
        density = density / density.sum(-1, keepdim=True).clamp(min=least)
        weights = self.lam * influence + (1 - self.lam) * density
        return weights if self.total == "one" else weights * length
