"""The interface of a method: a frozen dataclass of hyper-parameters, called on token statistics."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sparsepo.methods.hyper_parameters import HyperParameter, check_declared
from sparsepo.methods.search_space import SearchSpace
from sparsepo.types import LossOutput, TokenStats

LARGEST_EXPONENT = 80.0
"""Larger exponents count as this one: e^80 is finite in float32."""

MaskKind = Literal["none", "activation", "learned-common", "learned-independent"]
ThirdModel = Literal["oracle", "anti", "history"]
"""A frozen model besides policy and reference: trained on the preferences, trained on the reversed
preferences, or the policy of the previous iteration."""

RolloutValue = Literal[
    "sampling_logps", "credit", "mean_length", "log_z", "baseline", "sampling_values", "returns"
]
"""A field of TokenStats that is computed from all samples of a rollout."""

MEANINGS: dict[ThirdModel, str] = {
    "oracle": "a model that was trained on the preferences, with DPO for example",
    "anti": "a model that was trained on the reversed preferences",
    "history": "the policy of the previous iteration",
}
"""What each further model is, for messages."""


@dataclass(frozen=True)
class Needs:
    """The statistics that a method reads; the trainer computes only these."""

    ref_logps: bool = True
    """The reference's log-probabilities (no reference model is loaded if nothing needs one)."""
    kl: bool = False
    """The token KL over the whole vocabulary."""
    rejected: bool = True
    """The rejected responses."""
    mask: MaskKind = "none"
    """The kind of mask for reward_mask and kl_mask."""
    reverse_kl: bool = False
    """The token KL with the policy first."""
    log_sum_sq_probs: bool = False
    """The log-sum of the policy's squared probabilities."""
    models: tuple[ThirdModel, ...] = ()
    """Further models whose log-probabilities are read; each gives `<name>_logps`."""
    token_weights: bool = False
    """A weight per token that comes with the data."""
    hidden: bool = False
    """The policy's final hidden states."""
    values: bool = False
    """The value of what precedes each token, by a critic that is trained beside the policy."""
    importance: bool = False
    """The influence of each token on its response's last prediction."""
    scores: bool = False
    """A score per response that comes with the data."""
    win_probability: bool = False
    """The probability that chosen is preferred, which comes with the data."""
    mismatched: bool = False
    """The log-probabilities of each response with another pair's prompt."""
    whole_step: bool = False
    """All pairs of a step at once, because the loss is no sum over pairs: a step cannot be split
    into micro-batches or over processes."""

    rollout: tuple[RolloutValue, ...] = ()
    """Values of samples of the policy itself: the method is trained by RolloutTrainer, and its
    pairs are two samples of a prompt, in no order."""

    def in_words(self) -> list[str]:
        """Return what is read besides the policy's log-probabilities, in words."""
        told = {
            "the reference's log-probabilities": self.ref_logps,
            "the token KL, reference first": self.kl,
            "the token KL, policy first": self.reverse_kl,
            "log Σ_v π(v)² of each token, which takes no further pass": self.log_sum_sq_probs,
            "the policy's final hidden states": self.hidden,
            "a value of each token by a critic, a linear layer on the policy's final states": (
                self.values
            ),
            "each token's influence on the last prediction (one more forward and backward pass)": (
                self.importance
            ),
            "a score of each response, columns `score_chosen` and `score_rejected`": (
                self.scores and not self.rollout
            ),
            "the probability that chosen is preferred, column `win_probability`": (
                self.win_probability
            ),
            "a weight per token, from the file `token_masks` (as `reward_mask`)": (
                self.token_weights
            ),
            "a forward pass of responses with other pairs' prompts": self.mismatched,
            "all pairs of a step at once: one process, no gradient accumulation": self.whole_step,
            "samples of the policy with a reward for each": bool(self.rollout),
            f"masks ({self.mask})": self.mask != "none",
        }
        models = [f"the log-probabilities of a further model, `--{name}`" for name in self.models]
        alone = [] if self.rejected else ["only chosen responses"]
        return [text for text, needed in told.items() if needed] + models + alone

    @property
    def reference(self) -> bool:
        """Whether a reference model is needed at all."""
        return self.ref_logps or self.kl or self.reverse_kl or self.mask != "none"

    @property
    def from_outside(self) -> bool:
        """Whether values are read that come with the data, from further models or from rollouts."""
        with_data = self.token_weights or self.scores or self.win_probability
        return bool(self.models or self.rollout or with_data)

    @property
    def beyond_pairs(self) -> bool:
        """Whether values are read beyond a pair's log-probabilities, token KL and masks."""
        computed = (self.hidden, self.values, self.importance, self.mismatched)
        logits = (self.reverse_kl, self.log_sum_sq_probs)
        return self.from_outside or any(computed) or any(logits)

    @property
    def online_reference(self) -> bool:
        """Whether the reference must run at every step, for its distribution, states or prompts.

        The other values that a method reads from it are constant and can be cached.
        """
        masks = ("learned-common", "learned-independent")
        return self.kl or self.reverse_kl or self.mismatched or self.mask in masks

    @property
    def cacheable(self) -> bool:
        """Whether caching the reference's log-probabilities and activation masks saves work."""
        return self.mask == "activation" or (self.ref_logps and not self.online_reference)


@dataclass(frozen=True)
class Method(abc.ABC):
    """A preference-optimization method: hyper-parameters as fields, the loss as a call.

    A subclass sets `name`, `title`, `source` and `needs`, declares its hyper-parameters as
    dataclass fields (`hyper_parameter`), and implements `__call__`. A method with a running state
    also implements `initial_state`; its `__call__` takes the state as a third argument, None for
    the initial one, and returns the new one in `LossOutput.state`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """Display name in tables and figures."""
    source: ClassVar[str]
    """Paper and equation."""
    needs: ClassVar[Needs]
    search_space: ClassVar[SearchSpace] = MappingProxyType({})
    """What tuning may vary; empty if the method is not tuned."""
    flat: ClassVar[bool] = False
    """Whether the loss may be constant in some tokens or pairs, because it selects tokens or ends
    at a margin."""
    ordered: ClassVar[bool] = True
    """Whether, near the reference, the loss falls as a chosen reward rises and rises with a
    rejected one. False for the few published losses of which this does not hold."""
    unpaired: ClassVar[bool] = False
    """Whether the loss is a mean over single responses, so that rows with one response (unpaired
    data) can be trained on."""
    from_reference: ClassVar[bool] = True
    """Whether the implicit reward of a method that reads the reference is 0 where the policy is
    the reference."""

    @property
    def divisible(self) -> bool:
        """Whether a step may be split into micro-batches and over processes."""
        return not self.needs.whole_step

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        check_declared(self)

    @abc.abstractmethod
    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss of B pairs from the statistics of their responses.

        Args:
            chosen: statistics of the chosen responses, each field (B, T).
            rejected: statistics of the rejected responses, each field (B, T').

        Returns:
            The loss, per pair and mean, with detached implicit rewards and metrics.
        """

    def initial_state(self) -> dict[str, Tensor]:
        """Return the running state before the first step; empty for a method without one."""
        return {}


def response_sum(
    values: Float[Tensor, "B T"], stats: TokenStats, mask: Float[Tensor, "B T"] | None = None
) -> Float[Tensor, " B"]:
    """Return Σ_t m_t v_t over response tokens; values on padding are ignored.

    Args:
        values: one value per token, (B, T).
        stats: the statistics whose `response_mask` marks the response tokens.
        mask: m_t, (B, T); None means 1 everywhere.

    Returns:
        One sum per response, (B,).
    """
    weighted = values if mask is None else values * mask
    return torch.where(stats.response_mask.bool(), weighted, 0.0).sum(-1)


def response_mean(values: Float[Tensor, "B T"], stats: TokenStats) -> Float[Tensor, " B"]:
    """Return the mean over response tokens, (B,)."""
    return response_sum(values, stats) / stats.response_mask.sum(-1).clamp(min=1)


def log_ratios(stats: TokenStats) -> Float[Tensor, "B T"]:
    """Return r_t = log π(y_t) − log π_ref(y_t), (B, T), in nats."""
    return stats.policy_logps - required(stats.ref_logps, "ref_logps")


def token_kl(stats: TokenStats) -> Float[Tensor, "B T"]:
    """Return k_t = KL(π_ref ‖ π) per token, (B, T), in nats."""
    return required(stats.kl, "the token KL")


def log_ratio_sums(
    chosen: TokenStats, rejected: TokenStats
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return (R_w, R_l), the summed log-ratios Σ_t r_t of both responses, (B,) each."""
    return response_sum(log_ratios(chosen), chosen), response_sum(log_ratios(rejected), rejected)


def log_ratio_rewards(
    chosen: TokenStats,
    rejected: TokenStats,
    beta: float,
    weights: tuple[Float[Tensor, "B T"], Float[Tensor, "B S"]] | None = None,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return (β Σ ω r_w, β Σ ω r_l), the implicit rewards of DPO and its relatives, (B,) each.

    Args:
        chosen: statistics of the chosen responses.
        rejected: statistics of the rejected responses.
        beta: β.
        weights: ω of both; None means 1.
    """
    of_chosen, of_rejected = weights or (None, None)
    return (
        beta * response_sum(log_ratios(chosen), chosen, of_chosen),
        beta * response_sum(log_ratios(rejected), rejected, of_rejected),
    )


def log_ratio_means(
    chosen: TokenStats, rejected: TokenStats
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return the means of the log-ratios over the tokens of both responses, (B,) each."""
    return response_mean(log_ratios(chosen), chosen), response_mean(log_ratios(rejected), rejected)


def logp_sums(
    chosen: TokenStats, rejected: TokenStats
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return the log-probabilities log π(y | x) of both responses, (B,) each."""
    return response_sum(chosen.policy_logps, chosen), response_sum(rejected.policy_logps, rejected)


def logp_means(
    chosen: TokenStats, rejected: TokenStats
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return the mean log-probabilities of the tokens of both responses, (B,) each."""
    return (
        response_mean(chosen.policy_logps, chosen),
        response_mean(rejected.policy_logps, rejected),
    )


def present(stats: TokenStats) -> Bool[Tensor, " B"]:
    """Return which rows have this response, (B,): all but unpaired rows with the other one."""
    return stats.response_mask.bool().any(-1)


def mean_over_responses(
    chosen_losses: Float[Tensor, " B"],
    rejected_losses: Float[Tensor, " B"],
    chosen: TokenStats,
    rejected: TokenStats,
) -> Float[Tensor, " B"]:
    """Return the mean loss of each row's responses, (B,): of two, or of an unpaired row's one."""
    here = torch.stack([present(chosen), present(rejected)])
    losses = torch.where(here, torch.stack([chosen_losses, rejected_losses]), 0.0)
    return losses.sum(0) / here.sum(0)


def required(value: Tensor | None, name: str) -> Tensor:
    """Return a field of the statistics, or raise a ValueError that names it."""
    if value is None:
        raise ValueError(f"This method needs {name}; pass statistics that contain it.")
    return value


def smoothed_logistic(margin: Float[Tensor, " B"], epsilon: float) -> Float[Tensor, " B"]:
    """Return −(1−ε) log σ(m) − ε log σ(−m), the logistic loss on labels of which ε are wrong."""
    return -(1 - epsilon) * F.logsigmoid(margin) - epsilon * F.logsigmoid(-margin)


def loss_output(
    per_pair: Float[Tensor, " B"],
    chosen_rewards: Float[Tensor, " B"],
    rejected_rewards: Float[Tensor, " B"],
    metrics: dict[str, Tensor] | None = None,
    state: dict[str, Tensor] | None = None,
) -> LossOutput:
    """Return the losses of pairs and their mean as a LossOutput.

    Args:
        per_pair: the loss of each pair, (B,).
        chosen_rewards: implicit rewards of the chosen responses, (B,).
        rejected_rewards: implicit rewards of the rejected responses, (B,).
        metrics: per-pair values to log.
        state: the method's running state after these pairs.
    """
    return LossOutput(
        loss=per_pair.mean(),
        per_pair=per_pair,
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
        metrics={name: value.detach() for name, value in (metrics or {}).items()},
        state={name: value.detach() for name, value in (state or {}).items()},
    )


def logistic_output(
    logits: Float[Tensor, " B"],
    chosen_rewards: Float[Tensor, " B"],
    rejected_rewards: Float[Tensor, " B"],
    penalty: Float[Tensor, " B"] | None = None,
    metrics: dict[str, Tensor] | None = None,
) -> LossOutput:
    """Return −log σ(logits) (+ penalty) per pair, and its mean, as a LossOutput.

    Args:
        logits: the argument of the sigmoid, (B,).
        chosen_rewards: implicit rewards of the chosen responses, (B,).
        rejected_rewards: implicit rewards of the rejected responses, (B,).
        penalty: added to each pair's loss, (B,).
        metrics: per-pair values to log.
    """
    per_pair = -F.logsigmoid(logits)
    if penalty is not None:
        per_pair = per_pair + penalty
    return loss_output(per_pair, chosen_rewards, rejected_rewards, metrics)


def require_range(
    name: str, value: float, low: float = 0.0, *, inclusive: bool = True, high: float = math.inf
) -> None:
    """Raise a UserError unless low ≤ value ≤ high (low < value when not inclusive)."""
    highest = None if high == math.inf else high
    HyperParameter("", "", low, highest, open_low=not inclusive).check(name, value)
