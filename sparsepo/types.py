"""The data that flows from text to loss: frozen dataclasses, with shapes in the annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Only for annotations: commands that just read pairs should not have to import torch.
    import torch
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Message = dict[str, Any]
"""One chat message: `role` ("system", "user", "assistant", "tool"), `content` (text) and any other
field that a chat template may use, such as `tool_calls`. A message that calls tools may omit
`content`.
"""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One preference: a prompt with a chosen and a rejected response.

    In the text form all three are strings. In the chat form `prompt` holds the messages before
    the response, and `chosen` and `rejected` hold the message(s) of the response.
    """

    pair_id: str
    prompt: str | list[Message]
    chosen: str | list[Message]
    rejected: str | list[Message]
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for the chat template besides the messages: `tools`, `documents`,
    `enable_thinking` … Empty in the text form."""
    scores: tuple[float, float] | None = None
    """The scores of chosen and rejected, if the data have them."""
    win_probability: float | None = None
    """The probability that chosen is preferred, if the data have it."""
    label: bool | None = None
    """For an unpaired row, which has one response: whether that is desirable. A desirable one is
    `chosen`, an undesirable one `rejected`; the other is empty. None for a pair."""


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """Token ids of one pair; both responses end with EOS unless they were truncated.

    The response that an unpaired row lacks has no tokens, which `label` says.
    """

    pair_id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    scores: tuple[float, float] | None = None
    win_probability: float | None = None
    label: bool | None = None
    """Whether the only response of an unpaired row is desirable; None for a pair."""


@dataclass(frozen=True)
class PackedBatch:
    """Pairs packed into rows of [prompt | chosen | rejected], with each prompt stored once.

    The first token of each response is predicted from the last prompt token. `N` is the number of
    response tokens in the batch, ordered with all chosen responses before the rejected ones.
    """

    pair_ids: list[str]
    input_ids: Int[Tensor, "rows length"]
    position_ids: Int[Tensor, "rows length"]
    """Position of each token in its own sequence: both responses continue from the prompt."""
    pair_index: Int[Tensor, "rows length"]
    """The pair that a token belongs to; -1 for padding."""
    part: Int[Tensor, "rows length"]
    """0 for prompt, 1 for chosen, 2 for rejected; -1 for padding."""
    predictor_index: Int[Tensor, "N"]
    """Index into rows × length of the position that predicts each response token."""
    targets: Int[Tensor, "N"]
    """The response tokens themselves."""
    stat_index: Int[Tensor, "N"]
    """Index of each response token in the (responses, pairs, tokens) layout of the statistics."""
    response_mask: Bool[Tensor, "responses pairs tokens"]
    """True on response tokens. responses is 2 (chosen, rejected), or 1 (chosen only). Nowhere True
    for the response that an unpaired row lacks."""
    scores: Float[Tensor, "responses pairs"] | None = None
    """Scores that come with the data; None unless every pair has them."""
    win_probability: Float[Tensor, " pairs"] | None = None
    """Probabilities that chosen is preferred; None unless every pair has one."""

    def to(self, device: torch.device | str) -> PackedBatch:
        """Return the batch with every tensor on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if name != "pair_ids" and value is not None
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class TokenStats:
    """Per-token statistics of B responses of at most T tokens. Padding holds zeros.

    A field is None if the method did not ask for it.
    """

    policy_logps: Float[Tensor, "B T"]
    """log π(y_t | x, y_<t), in nats; with `kl` and `values`, the only field that carries
    gradients to the policy."""
    ref_logps: Float[Tensor, "B T"] | None
    """log π_ref(y_t | x, y_<t), in nats."""
    kl: Float[Tensor, "B T"] | None
    """KL(π_ref(·|x, y_<t) ‖ π(·|x, y_<t)) ≥ 0 over the whole vocabulary, in nats: the forward
    direction, with the reference first."""
    response_mask: Bool[Tensor, "B T"] | Float[Tensor, "B T"]
    """True (or 1) on response tokens, including the end-of-sequence token."""
    reward_mask: Float[Tensor, "B T"] | None = None
    """m_u(t) ≥ 0, applied to the log-ratios."""
    kl_mask: Float[Tensor, "B T"] | None = None
    """m_d(t) ≥ 0, applied to the token KL."""
    reverse_kl: Float[Tensor, "B T"] | None = None
    """KL(π(·|x, y_<t) ‖ π_ref(·|x, y_<t)) ≥ 0, in nats: the policy first."""
    log_sum_sq_probs: Float[Tensor, "B T"] | None = None
    """log Σ_v π(v|x, y_<t)², without gradient."""
    oracle_logps: Float[Tensor, "B T"] | None = None
    """Log-probabilities by a third, frozen model that was trained on preferences."""
    anti_logps: Float[Tensor, "B T"] | None = None
    """Log-probabilities by a frozen model that was trained on the reversed preferences."""
    history_logps: Float[Tensor, "B T"] | None = None
    """Log-probabilities by the policy of the previous iteration."""
    token_weights: Float[Tensor, "B T"] | None = None
    """Weights that come with the data or from another model, without gradient."""
    hidden: Float[Tensor, "B T d"] | None = None
    """The policy's final hidden states at the positions that predict the tokens, without
    gradient."""
    importance: Float[Tensor, "B T"] | None = None
    """‖∂ max_v logit_v at the last token / ∂ embedding of y_t‖₁ by the policy, without gradient."""
    scores: Float[Tensor, " B"] | None = None
    """A score of each response that comes with the data; higher is better."""
    win_probability: Float[Tensor, " B"] | None = None
    """Probability that this response is preferred to the pair's other one."""
    mismatched_policy_logps: Float[Tensor, " B"] | None = None
    """log π(y | x′), summed over the response, with the prompt of another pair; without
    gradient."""
    mismatched_ref_logps: Float[Tensor, " B"] | None = None
    """log π_ref(y | x′), summed over the response, with the prompt of another pair."""
    sampling_logps: Float[Tensor, "B T"] | None = None
    """log-probabilities of the policy that drew these samples, in nats."""
    credit: Float[Tensor, "B T"] | None = None
    """What each token of a sample gained over its group, computed from the whole rollout."""
    mean_length: Float[Tensor, " B"] | None = None
    """Mean length of the rollout's samples, in tokens; equal for all of them."""
    log_z: Float[Tensor, " B"] | None = None
    """Logarithm of the target's normalisation constant for this prompt."""
    baseline: Float[Tensor, " B"] | None = None
    """A constant that is subtracted from what a sample is worth."""
    values: Float[Tensor, "B T"] | None = None
    """The value of what precedes each token, by a critic that is trained beside the policy and to
    which this carries gradients."""
    sampling_values: Float[Tensor, "B T"] | None = None
    """These values when the samples were drawn."""
    returns: Float[Tensor, "B T"] | None = None
    """What the critic should say of each token, computed from the whole rollout."""


@dataclass(frozen=True)
class LossOutput:
    """The result of a method for B pairs."""

    loss: Float[Tensor, ""]
    """Mean of `per_pair`; the value to differentiate."""
    per_pair: Float[Tensor, "B"]
    chosen_rewards: Float[Tensor, "B"]
    """Implicit rewards of the chosen responses, detached: the quantity that the loss orders."""
    rejected_rewards: Float[Tensor, "B"]
    metrics: Mapping[str, Float[Tensor, "B"]] = field(default_factory=dict)
    """Per-pair values to log, detached, by documented name."""
    state: Mapping[str, Tensor] = field(default_factory=dict)
    """The running state of a method after these pairs; empty for a method without one."""
