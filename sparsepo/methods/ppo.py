"""PPO with a critic: RLHF as it was first done (arXiv 1707.06347, 1909.08593)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparsepo.methods.base import Needs, RolloutValue, required, response_mean
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.sampled import ClippedMethod, Samples, add_scores
from sparsepo.methods.search_space import LEARNING_RATE, Range, SearchSpace
from sparsepo.types import TokenStats

_SMALLEST_VARIANCE = 1e-8
"""Added to the variance of a rollout's advantages, as OpenAI's code does."""

_CODE = "[code] openai/lm-human-preferences"


@dataclass(frozen=True)
class PPO(ClippedMethod):
    """PPO's clipped objective with advantages from a critic, a value head on the policy.

    L = Σ_t [−min(ρ_t A_t, clip(ρ_t, 1 ± ε) A_t)
    + (c/2) max((V_t − G_t)², (clip(V_t, U_t ± ε_v) − G_t)²)] / length, ρ_t = π / π_sampling, V_t
    the critic's value of what precedes token t, U_t the same before the steps; token t's reward g_t
    is −κ (log π_sampling − log π_ref), plus the response's reward at the last token;
    A_t = Σ_{s≥t} (γλ)^(s−t) (g_s + γ U_{s+1} − U_s), where U is 0 after the last token;
    G_t = A_t + U_t; and A is then shifted and scaled to mean 0 and variance 1 over the rollout.
    Source: arXiv 1707.06347 eq. 7, advantages of arXiv 1506.02438, the KL as a reward of
    arXiv 1909.08593 eq. 2; the critic's loss and details as in openai/lm-human-preferences.
    """

    name: ClassVar[str] = "ppo"
    title: ClassVar[str] = "PPO"
    source: ClassVar[str] = "arXiv 1909.08593, openai/lm-human-preferences"
    needs: ClassVar[Needs] = Needs(
        values=True,
        rollout=("sampling_logps", "credit", "mean_length", "sampling_values", "returns"),
    )

    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        # A factor of ten around TRL's value [ours].
        "kl_weight": Range(0.005, 0.5),
    }
    before_steps: ClassVar[frozenset[str]] = frozenset({"ref_logps"})

    kl_weight: float = hyper_parameter(
        0.05, "Weight κ of the log-ratio to the reference.", source="[code] TRL", low=0
    )
    gamma: float = hyper_parameter(1.0, "Discount γ of later rewards.", source=_CODE, low=0, high=1)
    lam: float = hyper_parameter(
        0.95,
        "λ of the advantages: 1 trusts the rewards that came, 0 the critic's next value.",
        source=_CODE,
        low=0,
        high=1,
    )
    scale: str = hyper_parameter(
        "rollout",
        "What advantages are shifted and divided by: their mean and standard deviation over the "
        "rollout's tokens, or nothing.",
        source=_CODE,
        choices=("rollout", "none"),
    )
    value_weight: float = hyper_parameter(
        0.1, "Weight c of the critic's loss.", source=_CODE, low=0, open_low=True
    )
    value_epsilon: float = hyper_parameter(
        0.2,
        "Largest change ε_v of a value, in units of the reward, that the steps on a rollout gain "
        "from.",
        source=_CODE,
        low=0,
        open_low=True,
    )
    value_gradient: str = hyper_parameter(
        "policy",
        "What the critic's loss trains: the policy's layers too, or the head alone.",
        source=_CODE,
        choices=("policy", "head"),
    )
    value_rate: float = hyper_parameter(
        1.0,
        "Learning rate of the head, in multiples of the policy's.",
        source=_CODE,
        low=0,
        open_low=True,
    )

    def sample_loss(
        self, stats: TokenStats
    ) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
        """Return the loss of each sample, with the critic's; see `SampledMethod`."""
        losses, metrics = super().sample_loss(stats)
        free, near = self._errors(stats)
        return losses, {
            **metrics,
            f"{self.name}/value_error": response_mean(free, stats),
            f"{self.name}/value_clipped": response_mean((near > free).to(free.dtype), stats),
        }

    def token_penalty(self, stats: TokenStats) -> Float[Tensor, "B T"] | float:
        """Return the critic's loss of each token."""
        free, near = self._errors(stats)
        return self.value_weight / 2 * free.maximum(near)

    def _errors(self, stats: TokenStats) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return the squared errors of the values, and of the values kept near the earlier ones."""
        values = required(stats.values, "values")
        before = required(stats.sampling_values, "sampling_values")
        target = required(stats.returns, "returns")
        near = values.clamp(before - self.value_epsilon, before + self.value_epsilon)
        return (values - target).square(), (near - target).square()

    def token_rewards(self, samples: Samples) -> Float[Tensor, "S T"]:
        """Return the reward of each token, zero on padding."""
        ref = required(samples.ref_logps, "ref_logps")
        rewards = -self.kl_weight * (samples.logps - ref) * samples.response_mask
        return add_scores(rewards, samples.scores, samples.response_mask)

    def from_rollout(self, samples: Samples) -> Mapping[RolloutValue, Tensor]:
        """Return the advantages of tokens as their credit, and what the critic should say."""
        values = required(samples.values, "values") * samples.response_mask
        advantages = generalised_advantages(
            self.token_rewards(samples), values, self.gamma, self.lam
        )
        lengths = samples.lengths
        return {
            "credit": self._scaled(advantages, samples.response_mask),
            "mean_length": lengths.mean().expand_as(lengths),
            "sampling_values": values,
            "returns": advantages + values,
        }

    def _scaled(
        self, advantages: Float[Tensor, "S T"], mask: Bool[Tensor, "S T"]
    ) -> Float[Tensor, "S T"]:
        if self.scale == "none":
            return advantages
        variance, mean = torch.var_mean(advantages[mask], correction=0)
        return (advantages - mean) * (variance + _SMALLEST_VARIANCE).rsqrt() * mask


def generalised_advantages(
    rewards: Float[Tensor, "S T"], values: Float[Tensor, "S T"], gamma: float, lam: float
) -> Float[Tensor, "S T"]:
    """Return generalised advantages A_t = Σ_{s≥t} (γλ)^(s−t) (r_s + γ V_{s+1} − V_s).

    Source: arXiv 1506.02438 eq. 16.

    Args:
        rewards: of tokens, zero on padding.
        values: of the states before the tokens, zero on padding: nothing is gained after the end.
        gamma: γ, the discount.
        lam: λ.
    """
    after = torch.nn.functional.pad(values[:, 1:], (0, 1))
    found = rewards + gamma * after - values
    for place in reversed(range(found.shape[1] - 1)):
        found[:, place] += gamma * lam * found[:, place + 1]
    return found
