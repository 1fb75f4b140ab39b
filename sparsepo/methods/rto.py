"""RTO: reinforced token optimization (arXiv 2404.18922)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import Needs, RolloutValue, required
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.sampled import ClippedMethod, Samples, add_scores
from sparsepo.methods.search_space import LEARNING_RATE, Range, SearchSpace

_LARGEST_SCORE = 10.0
"""Rewards of whole responses are clipped to ± this, as the authors' code does."""


@dataclass(frozen=True)
class RTO(ClippedMethod):
    """PPO's clipped objective with a reward for each token from a model that DPO trained.

    L = Σ_t −min(ρ_t A_t, clip(ρ_t, 1 ± ε) A_t) / length, ρ_t = π / π_sampling; a token's reward is
    clip(β₁ (log π_o − log π_ref), ± c) − κ (log π_sampling − log π_ref), plus the response's reward
    at the last token; A_t is the sum of the rewards from token t on, minus the mean of that sum at
    token t over the prompt's other samples.
    The authors train a critic in place of that mean, and weight later rewards by λ = 0.95.
    Source: arXiv 2404.18922; token rewards as in the authors' code.
    """

    name: ClassVar[str] = "rto"
    title: ClassVar[str] = "RTO"
    source: ClassVar[str] = "arXiv 2404.18922, authors' code"
    needs: ClassVar[Needs] = Needs(
        models=("oracle",), rollout=("sampling_logps", "credit", "mean_length")
    )

    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        # A factor of ten around the script's value [ours].
        "kl_weight": Range(0.001, 0.1),
    }
    before_steps: ClassVar[frozenset[str]] = frozenset({"ref_logps", "oracle_logps"})

    beta: float = hyper_parameter(
        0.05, "Scale β₁ of the oracle's rewards.", source="[code] the released script", low=0
    )
    limit: float = hyper_parameter(
        0.05, "Largest size c of such a reward.", source="[code] the released script", low=0
    )
    kl_weight: float = hyper_parameter(
        0.01,
        "Weight κ of the log-ratio to the reference.",
        source="[code] the released script",
        low=0,
    )

    def token_rewards(self, samples: Samples) -> Float[Tensor, "S T"]:
        """Return the reward of each token, zero on padding."""
        ref = required(samples.ref_logps, "ref_logps")
        guide = self.beta * (required(samples.oracle_logps, "oracle_logps") - ref)
        rewards = guide.clamp(-self.limit, self.limit) - self.kl_weight * (samples.logps - ref)
        rewards = rewards * samples.response_mask
        scores = samples.scores.clamp(-_LARGEST_SCORE, _LARGEST_SCORE)
        return add_scores(rewards, scores, samples.response_mask)

    def from_rollout(self, samples: Samples) -> Mapping[RolloutValue, Tensor]:
        """Return the credit of each token."""
        rewards = self.token_rewards(samples)
        # Beyond its end a sample has no rewards left, which is what its group is compared with.
        ahead = samples.by_group(rewards.flip(-1).cumsum(-1).flip(-1))
        others = (ahead.sum(1, keepdim=True) - ahead) / (samples.group_size - 1)
        credit = (ahead - others).flatten(0, 1) * samples.response_mask
        lengths = samples.lengths
        return {"credit": credit, "mean_length": lengths.mean().expand_as(lengths)}
