"""Methods that are trained on samples of the policy itself, of which a reward is known."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from sparsepo.methods.base import (
    LARGEST_EXPONENT,
    Method,
    RolloutValue,
    loss_output,
    required,
    response_sum,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class Samples:
    """All samples of a rollout, S of them, before the first step that is trained on them.

    Samples k·K to (k + 1)·K − 1 share a prompt: they are its group.
    """

    scores: Float[Tensor, " S"]
    """Their rewards."""
    group_size: int
    """K."""
    logps: Float[Tensor, "S T"]
    """log-probabilities of the policy that drew them, in nats; zero on padding."""
    response_mask: Bool[Tensor, "S T"]
    ref_logps: Float[Tensor, "S T"] | None = None
    oracle_logps: Float[Tensor, "S T"] | None = None
    values: Float[Tensor, "S T"] | None = None
    """A critic's value of what precedes each token; zero on padding."""

    @property
    def lengths(self) -> Float[Tensor, " S"]:
        """Tokens of each sample."""
        return self.response_mask.sum(-1).to(self.logps.dtype)

    def by_group(self, values: Float[Tensor, "S *rest"]) -> Float[Tensor, "groups K *rest"]:
        """Return values of samples, a row for each group."""
        grouped: Tensor = values.unflatten(0, (-1, self.group_size))
        return grouped


@dataclass(frozen=True)
class SampledMethod(Method):
    """Abstract: a loss of single samples; a pair is two samples of a prompt, in no order.

    The implicit reward of a sample is log π(y) − log π_sampling(y): how much likelier it became.
    """

    ordered: ClassVar[bool] = False
    from_reference: ClassVar[bool] = False
    before_steps: ClassVar[frozenset[str]] = frozenset()
    """Statistics that `needs` declares and only `from_rollout` reads."""

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the mean loss of both samples; what `needs` declares is read."""
        losses, gains, measured = [], [], []
        for stats in (chosen, rejected):
            loss, metrics = self.sample_loss(stats)
            losses.append(loss)
            gains.append(log_gain(stats))
            measured.append(metrics)
        means = {name: (value + measured[1][name]) / 2 for name, value in measured[0].items()}
        return loss_output((losses[0] + losses[1]) / 2, gains[0], gains[1], means)

    @abc.abstractmethod
    def sample_loss(
        self, stats: TokenStats
    ) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
        """Return the loss of each sample, (B,), and values to log."""

    @abc.abstractmethod
    def from_rollout(self, samples: Samples) -> Mapping[RolloutValue, Tensor]:
        """Return the values that `needs.rollout` declares beyond `sampling_logps`.

        Args:
            samples: all samples of a rollout.

        Returns:
            (S, T) for values of tokens, (S,) for values of samples; without gradient.
        """


def add_scores(
    rewards: Float[Tensor, "S T"], scores: Float[Tensor, " S"], mask: Bool[Tensor, "S T"]
) -> Float[Tensor, "S T"]:
    """Return rewards of tokens with each sample's score added to that of its last token.

    Args:
        rewards: zero on padding.
        scores: one per sample.
        mask: True on the samples' tokens.
    """
    last = (mask.sum(-1) - 1).clamp(min=0)
    return rewards.scatter_add(1, last[:, None], scores.to(rewards.dtype)[:, None])


def log_gain(stats: TokenStats) -> Float[Tensor, " B"]:
    """Return log π(y) − log π_sampling(y) of each sample, (B,), in nats."""
    before = required(stats.sampling_logps, "sampling_logps")
    return response_sum(stats.policy_logps - before, stats)


@dataclass(frozen=True)
class ClippedMethod(SampledMethod):
    """Abstract: PPO's clipped objective; subclasses say what a token is credited with.

    Per token: −min(ρ A, clip(ρ, 1 ± ε) A), ρ = π / π_sampling, A the credit.
    Source: arXiv 1707.06347 eq. 7.
    """

    epsilon: float = hyper_parameter(
        0.2,
        "Largest change of a token's probability ratio.",
        source="[paper] and TRL",
        low=0,
        open_low=True,
    )
    normalisation: str = hyper_parameter(
        "tokens",
        "What a sample's token losses are divided by: the rollout's mean length, so that every "
        "token counts alike, or its own length, so that every response does.",
        source="TRL 1.16 (dapo)",
        choices=("tokens", "response"),
    )

    def sample_loss(
        self, stats: TokenStats
    ) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
        """Return the clipped loss of each sample; see `SampledMethod`."""
        before = required(stats.sampling_logps, "sampling_logps")
        credit = required(stats.credit, "credit")
        exponent = (stats.policy_logps - before).clamp(max=LARGEST_EXPONENT)
        ratio = exponent.exp()
        kept = ratio.clamp(1 - self.epsilon, 1 + self.epsilon)
        tokens = -(ratio * credit).minimum(kept * credit) + self.token_penalty(stats)
        length = (
            required(stats.mean_length, "mean_length")
            if self.normalisation == "tokens"
            else stats.response_mask.sum(-1)
        ).clamp(min=1)
        clipped = ((ratio * credit) > (kept * credit)).to(tokens.dtype)
        share = response_sum(clipped, stats) / stats.response_mask.sum(-1).clamp(min=1)
        return response_sum(tokens, stats) / length, {f"{self.name}/clipped": share}

    def token_penalty(self, stats: TokenStats) -> Float[Tensor, "B T"] | float:
        """Return what is added to each token's loss."""
        del stats
        return 0.0
