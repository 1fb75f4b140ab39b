"""Experiments that find out why a model's results differ in packed rows."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.batches.attention import AttentionMask, attention_mask_for
from sparsepo.batches.pack import pack_pairs, packed_length
from sparsepo.fused import token_stats
from sparsepo.models.head import OutputHead
from sparsepo.models.plain import log_probs_of, of_next_token, run_whole
from sparsepo.training.probe_pairs import swap_responses
from sparsepo.types import PackedBatch, TokenizedPair


class Cause(enum.Enum):
    """The difference, as the end of a sentence that begins with the model."""

    HEAD = "transforms its logits in a way that the packed form cannot repeat"
    ATTENTION = (
        "attends differently in packed rows than in its own forward pass, because a window, a "
        "local layer or a running state ignores the block mask"
    )
    POSITIONS = "counts positions or distances along a packed row instead of using the position ids"
    REFUSED = "cannot run packed rows"
    PACKED = "computes different log-probabilities in packed rows than in its own forward pass"


def find_cause(
    model: PreTrainedModel, head: OutputHead, pairs: Sequence[TokenizedPair], tolerance: float
) -> Cause:
    """Return why a model's packed form differs from its own forward pass.

    Args:
        model: without adapters around it, in evaluation mode.
        head: how the packed form computes logits.
        pairs: pairs that show the difference.
        tolerance: difference in nats up to which two log-probabilities count as equal.
    """
    try:
        return _cause(model, head, pairs, _Differ(tolerance))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        # The experiments call parts of the model separately, which not every model allows.
        return Cause.PACKED


def _cause(
    model: PreTrainedModel, head: OutputHead, pairs: Sequence[TokenizedPair], differ: _Differ
) -> Cause:
    own_mask: Any = None
    for pair in (*pairs, *map(swap_responses, pairs)):
        single = pack_pairs([pair], rejected=False).to(model.device)
        own = _alone(model, single)
        if differ(own, _by_head(model, head, single)):
            return Cause.HEAD
        if differ(own, _packed(model, head, single)):
            # There is one sequence in the row: if it still differs with the model's own mask, the
            # position ids are the cause.
            try:
                unmasked = _packed(model, head, single, own_mask)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
                return Cause.POSITIONS
            return Cause.POSITIONS if differ(own, unmasked) else Cause.ATTENTION
    # Check whether a sequence attends to another one in its row in spite of the mask.
    changed = [replace(pairs[0], chosen_ids=_others(pairs[0].chosen_ids)), *pairs[1:]]
    together = sum(map(packed_length, pairs))
    batches = [
        pack_pairs(some, tokens_per_row=together).to(model.device) for some in (pairs, changed)
    ]
    before, after = (_packed(model, head, batch) for batch in batches)
    elsewhere = torch.ones_like(before, dtype=torch.bool)
    elsewhere[: len(pairs[0].chosen_ids)] = False
    if differ(before[elsewhere], after[elsewhere]):
        return Cause.ATTENTION
    plain = pack_pairs(pairs, share_prompt=False).to(model.device)
    if differ(_alone(model, plain), before):
        return Cause.POSITIONS
    return Cause.PACKED


class _Differ:
    """Whether two tensors differ by more than a tolerance."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def __call__(self, left: Tensor, right: Tensor) -> bool:
        return not float((left - right).abs().max()) <= self.tolerance


def _others(ids: Sequence[int]) -> list[int]:
    """Return as many tokens, all different."""
    return [(token + 1) if token == 0 else token - 1 for token in ids]


def _alone(model: PreTrainedModel, batch: PackedBatch) -> Float[Tensor, " N"]:
    return of_next_token(log_probs_of(run_whole(model, batch, "alone")), batch)


def _packed(
    model: PreTrainedModel, head: OutputHead, batch: PackedBatch, *own_mask: AttentionMask | None
) -> Float[Tensor, " N"]:
    mask: Any = own_mask[0] if own_mask else attention_mask_for(model, batch)
    hidden = head.final_states(model, batch, mask)
    weight, bias = head.weights(model)
    return _logps(hidden, weight, bias, head, batch)


def _by_head(model: PreTrainedModel, head: OutputHead, batch: PackedBatch) -> Float[Tensor, " N"]:
    """Return log-probabilities by `head` for the states that the model's forward pass projects."""
    kept: list[Tensor] = []
    projection: Any = model.get_output_embeddings()

    def keep(_module: nn.Module, inputs: Any) -> None:
        kept.append(inputs[0])

    handle = projection.register_forward_pre_hook(keep)
    try:
        model(input_ids=batch.input_ids, use_cache=False)
    finally:
        handle.remove()
    weight, bias = head.weights(model)
    hidden = kept[-1].flatten(0, 1)[batch.predictor_index]
    return _logps(hidden, weight, bias, head, batch)


def _logps(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, head: OutputHead, batch: PackedBatch
) -> Float[Tensor, " N"]:
    return token_stats(
        hidden.to(weight.dtype),
        weight,
        None,
        None,
        batch.targets,
        policy_bias=bias,
        need_kl=False,
        policy_transform=head.transform,
    ).policy_logps
