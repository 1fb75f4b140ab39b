"""The reference implementation: a model's own forward pass, which the packed form must equal.

Each response has its own row and its own copy of the prompt, the model applies its own head to
every token, and full log-probabilities in float32 or wider are differentiated by autograd. The
methods' original implementations work this way, with the same cost in time and memory. It is the
baseline in tests, benchmarks and the start check, and it trains models that cannot run packed rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.batches.attention import FLEX
from sparsepo.batches.pack import PADDING
from sparsepo.models.implementations import use_implementation
from sparsepo.types import PackedBatch

Computation = Literal["packed", "plain", "alone"]
"""How a batch is computed: packed; plain, with one padded row per response; or alone, with a
separate forward pass per response, without padding or mask."""


def run_whole(model: PreTrainedModel, batch: PackedBatch, computation: Computation) -> Any:
    """Run a model with its head on one row per response; return its output.

    A model set to FlexAttention runs with SDPA here: it would compile a kernel for each kind of
    mask, and what the packed form is compared with should be independent of it.

    Args:
        model: the model, with or without adapters around it.
        batch: as returned by pack_pairs(share_prompt=False).
        computation: "plain", or "alone" to run each row separately, without padding or mask.

    Raises:
        ValueError: the batch's prompts are shared.
    """
    if len(batch.input_ids) != batch.response_mask.shape[0] * len(batch.pair_ids):
        raise ValueError(
            "The reference implementation needs one row per response; pack with share_prompt=False."
        )
    inside = batch.pair_index != PADDING
    with use_implementation(model, "attn", lambda name: "sdpa" if name == FLEX else name):
        if computation != "alone":
            mask = inside.long()
            return model(input_ids=batch.input_ids, attention_mask=mask, use_cache=False)
        outputs = []
        for ids, length in zip(batch.input_ids, inside.sum(1).tolist(), strict=True):
            outputs.append(model(input_ids=ids[None, :length], use_cache=False))
    width = batch.input_ids.shape[1]
    return _Joined(outputs, width)


class _Joined:
    """A model's outputs for separate rows, padded with zeros and joined."""

    def __init__(self, outputs: list[Any], width: int) -> None:
        self.logits = _join([output.logits for output in outputs], width)


def _join(rows: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat([nn.functional.pad(row, (0, 0, 0, width - row.shape[1])) for row in rows])


_pairwise: ContextVar[bool] = ContextVar("pairwise", default=False)


@contextlib.contextmanager
def pairwise_sums() -> Iterator[None]:
    """Let `log_probs_of` round less inside, for comparisons; it takes more time and memory.

    On a CPU `log_softmax` adds up a row's exponentials one after another. With 262,144 words that
    moves all log-probabilities of a row by 3e-5 nats, as much as an error worth finding.
    `logsumexp` adds them up pairwise, which moves them by 2e-6.
    """
    token = _pairwise.set(True)
    try:
        yield
    finally:
        _pairwise.reset(token)


def log_probs_of(output: Any) -> Float[Tensor, "rows length V"]:
    """Return log π(·) of a causal model's output, in float32 or wider."""
    logits: Tensor = output.logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if _pairwise.get():
        return logits - logits.logsumexp(-1, keepdim=True)
    return logits.log_softmax(-1)


def of_next_token(
    log_probs: Float[Tensor, "rows length V"], batch: PackedBatch
) -> Float[Tensor, " N"]:
    """Return log π(y_t) of a batch's response tokens."""
    labels = batch.input_ids.roll(-1, 1)  # the last one wraps around, but no response uses it
    return at_predictors(log_probs.gather(-1, labels[..., None])[..., 0], batch)


def at_predictors(values: Float[Tensor, "rows length"], batch: PackedBatch) -> Float[Tensor, " N"]:
    """Return values at the positions that predict a batch's response tokens."""
    return values.flatten()[batch.predictor_index]


class BodyStates:
    """The final states of a model's body, before its head, in each of its forward passes."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def at_predictors(self, batch: PackedBatch) -> Float[Tensor, "N d"]:
        """Return the states at the positions that predict a batch's response tokens."""
        states = _join(self.outputs, batch.input_ids.shape[1])
        return states.flatten(0, 1)[batch.predictor_index]


@contextlib.contextmanager
def body_states(model: PreTrainedModel) -> Iterator[BodyStates]:
    """Collect the final states of a model's body while the model runs inside.

    Args:
        model: without adapters around it.
    """
    found = BodyStates()

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.outputs.append(output.last_hidden_state)

    handle = model.base_model.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
