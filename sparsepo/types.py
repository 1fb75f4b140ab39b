"""The data that flows from text to loss: frozen dataclasses, with shapes in the annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Shapes are for reading and for mypy: a command that reads pairs does not wait for torch.
    import torch
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Message = dict[str, Any]
"""One chat message: `role` ("system", "user", "assistant", "tool"), `content` (text) and whatever
else a chat template may use, such as `tool_calls`. A message that calls tools may lack `content`.
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
    """What the chat template gets besides the messages: `tools`, `documents`, `enable_thinking` …
    Empty in the text form."""


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """Token ids of one pair; both responses end with EOS unless they were truncated."""

    pair_id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


@dataclass(frozen=True)
class PackedBatch:
    """Pairs packed into rows of [prompt | chosen | rejected], each prompt standing once.

    The first token of either response is predicted from the last prompt token. `N` counts the
    response tokens of the batch; they are numbered chosen responses first, then rejected ones.
    """

    pair_ids: list[str]
    input_ids: Int[Tensor, "rows length"]
    position_ids: Int[Tensor, "rows length"]
    """Position of each token in its own sequence: both responses count on from the prompt."""
    pair_index: Int[Tensor, "rows length"]
    """Which pair a token belongs to; -1 is padding."""
    part: Int[Tensor, "rows length"]
    """0 prompt, 1 chosen, 2 rejected; -1 padding."""
    sources: Int[Tensor, "N"]
    """Index into rows × length of the position that predicts each response token."""
    targets: Int[Tensor, "N"]
    """The response tokens themselves."""
    slots: Int[Tensor, "N"]
    """Index of each response token in the (responses, pairs, tokens) layout of the statistics."""
    response_mask: Bool[Tensor, "responses pairs tokens"]
    """True on response tokens. responses is 2 (chosen, rejected), or 1 (chosen alone)."""

    def to(self, device: torch.device | str) -> PackedBatch:
        """Return the batch with every tensor on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if name != "pair_ids"
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class TokenStats:
    """What a method may know about B responses of at most T tokens. Padding holds zeros.

    A field is None where the method did not ask for it.
    """

    policy_logps: Float[Tensor, "B T"]
    """log π(y_t | x, y_<t), in nats; the only field through which gradients reach the policy,
    apart from `kl`."""
    ref_logps: Float[Tensor, "B T"] | None
    """log π_ref(y_t | x, y_<t), in nats."""
    kl: Float[Tensor, "B T"] | None
    """KL(π_ref(·|x, y_<t) ‖ π(·|x, y_<t)) ≥ 0 over the whole vocabulary, in nats: forward
    direction, reference first."""
    response_mask: Bool[Tensor, "B T"] | Float[Tensor, "B T"]
    """True (or 1) on response tokens, the end-of-sequence token included."""
    reward_mask: Float[Tensor, "B T"] | None = None
    """m_u(t) ≥ 0, on the log-ratios."""
    kl_mask: Float[Tensor, "B T"] | None = None
    """m_d(t) ≥ 0, on the token KL."""


@dataclass(frozen=True)
class LossOutput:
    """A method's answer for B pairs."""

    loss: Float[Tensor, ""]
    """Mean of `per_pair`; the value to differentiate."""
    per_pair: Float[Tensor, "B"]
    chosen_rewards: Float[Tensor, "B"]
    """Implicit rewards of the chosen responses, detached, in the order that the loss optimises."""
    rejected_rewards: Float[Tensor, "B"]
    metrics: Mapping[str, Float[Tensor, "B"]] = field(default_factory=dict)
    """Per-pair values to log, detached, by their documented names."""
