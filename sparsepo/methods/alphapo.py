"""AlphaPO: SimPO with a reward of another shape (arXiv 2501.03884)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    LARGEST_EXPONENT,
    Method,
    Needs,
    logistic_output,
    logp_means,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, MEAN_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class AlphaPO(Method):
    """SimPO's loss on a transformed mean log-probability; no reference.

    L = −log σ(β[ρ_w − ρ_l] − γ), ρ = (1 − e^(−α ℓ̄)) / α, ℓ̄ = mean log π(y); α → 0 is SimPO.
    Implicit reward: β ρ. Source: arXiv 2501.03884.
    """

    name: ClassVar[str] = "alphapo"
    title: ClassVar[str] = "AlphaPO"
    source: ClassVar[str] = "arXiv 2501.03884"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": MEAN_BETA,
    }

    beta: float = hyper_parameter(
        2.5,
        "Scale of the reward.",
        source="[via TRL] table 3, Mistral-Instruct",
        low=0,
        open_low=True,
    )
    gamma: float = hyper_parameter(
        0.1, "Target margin.", source="[via TRL] table 3, Mistral-Instruct", low=0
    )
    alpha: float = hyper_parameter(
        0.25,
        "Shape of the reward; 0 is SimPO, negative values are permitted.",
        source="[via TRL] table 3, Mistral-Instruct",
        low=-10,
        high=10,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards, rejected_rewards = (
            self.beta * self._shape(mean) for mean in logp_means(chosen, rejected)
        )
        return logistic_output(
            chosen_rewards - rejected_rewards - self.gamma, chosen_rewards, rejected_rewards
        )

    def _shape(self, mean: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return ρ."""
        if self.alpha == 0:
            return mean
        # Beyond this exponent float32 would overflow.
        exponent = (-self.alpha * mean).clamp(max=LARGEST_EXPONENT)
        return -torch.expm1(exponent) / self.alpha
