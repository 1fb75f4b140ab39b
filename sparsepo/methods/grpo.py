"""GRPO: policy optimization with a baseline from the samples of a prompt (arXiv 2402.03300)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import LARGEST_EXPONENT, Needs, RolloutValue, log_ratios
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.sampled import ClippedMethod, Samples
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import TokenStats

_SMALLEST_SPREAD = 1e-4
"""Added to a group's standard deviation, as TRL does."""


@dataclass(frozen=True)
class GRPO(ClippedMethod):
    """PPO's clipped objective with rewards relative to those of the prompt's other samples.

    L = Σ_t [−min(ρ_t A, clip(ρ_t, 1 ± ε) A) + β (e^(−r_t) + r_t − 1)] / length,
    ρ_t = π / π_sampling, A = (R − mean R) / (std R + 1e-4) over the samples of a prompt,
    r_t = log π(y_t) − log π_ref(y_t).
    Source: arXiv 2402.03300 eq. 3 and 4; TRL 1.16.
    """

    name: ClassVar[str] = "grpo"
    title: ClassVar[str] = "GRPO"
    source: ClassVar[str] = "arXiv 2402.03300 eq. 3; TRL 1.16"
    needs: ClassVar[Needs] = Needs(rollout=("sampling_logps", "credit", "mean_length"))

    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.04, "Weight of the KL to the reference.", source="[paper] section 4.2", low=0
    )
    scale: str = hyper_parameter(
        "group",
        "What rewards are divided by: their standard deviation in the group, or nothing.",
        source="[paper] eq. 3; none is arXiv 2503.20783",
        choices=("group", "none"),
    )

    def token_penalty(self, stats: TokenStats) -> Float[Tensor, "B T"] | float:
        """Return β times an estimate of KL(π ‖ π_ref) of each token, which is never negative."""
        ratios = log_ratios(stats)
        return self.beta * ((-ratios).clamp(max=LARGEST_EXPONENT).exp() + ratios - 1)

    def from_rollout(self, samples: Samples) -> Mapping[RolloutValue, Tensor]:
        """Return each sample's advantage, the same for all of its tokens."""
        rewards = samples.by_group(samples.scores)
        advantage = rewards - rewards.mean(1, keepdim=True)
        if self.scale == "group":
            advantage = advantage / (rewards.std(1, keepdim=True) + _SMALLEST_SPREAD)
        tokens = advantage.flatten()[:, None] * samples.response_mask
        lengths = samples.lengths
        return {"credit": tokens, "mean_length": lengths.mean().expand_as(lengths)}
