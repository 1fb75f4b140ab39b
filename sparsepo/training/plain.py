"""The plain form of the same computation: what the packed form must equal.

One padded row for every response, its prompt in front each time; both models with their heads on
every token; full float32 log-probabilities of policy and reference, differentiated by autograd. It
is how the methods' own implementations compute, at their cost in time and memory: the yardstick in
tests and benchmarks, and a second opinion on a new architecture (POConfig.computation="plain").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from sparsepo.batches.pack import PADDING
from sparsepo.masks import FeatureMean, feature_mean
from sparsepo.methods.base import Method, Needs
from sparsepo.models.capture import capture_activations, capture_layers
from sparsepo.reference.online import Reference, ReferenceStates, mask_of_captures, mask_settings
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.types import PackedBatch, TokenStats


@dataclass(frozen=True)
class PlainStates(ReferenceStates):
    """What the reference says, with the log-probabilities of every token of every row."""

    log_probs: Float[Tensor, "rows length V"] | None = None


class PlainReference(Reference):
    """A frozen reference that keeps its whole log-probabilities."""

    def _read(self, batch: PackedBatch, method: Method, needs: Needs) -> ReferenceStates:
        found: Any = None
        if needs.mask == "activation":
            families, mapping = mask_settings(method)
            inside = tuple(family for family in families if family != "logits")
            with capture_activations(self.model, batch, inside) as found:
                output = _run(self.model, batch)
            if "logits" in families:
                reduced = feature_mean(output.logits)
                found["logits"] = [FeatureMean(*(_at_sources(v, batch) for v in reduced))]
            return PlainStates(
                activation_mask=mask_of_captures(found, batch, mapping),
                log_probs=_log_probs(output),
            )
        if needs.mask not in ("learned-common", "learned-independent"):
            return PlainStates(log_probs=_log_probs(_run(self.model, batch)))
        last_only = getattr(method, "mask_layers", "all") == "last"
        with capture_layers(self.model, batch, last_only) as layers:
            output = _run(self.model, batch)
        return PlainStates(layers=layers, log_probs=_log_probs(output))


class PlainPolicy(PolicyWithMasks):
    """The policy and its masks, computed in the plain form."""

    def forward(
        self,
        batch: PackedBatch,
        reference: ReferenceStates | None,
        needs: Needs,
        chunk_size: int | None = None,
    ) -> tuple[TokenStats, TokenStats | None]:
        """Return the statistics of the chosen and of the rejected responses.

        Args:
            batch: one row per response, as pack_pairs(share_prompt=False) makes it.
            reference: what a PlainReference or a cache says.
            needs: what to compute.
            chunk_size: must be None; nothing is computed in blocks here.

        Raises:
            ValueError: a chunk_size, or prompts that are shared.
        """
        if chunk_size is not None:
            raise ValueError("the plain form computes nothing in blocks; leave chunk_size out")
        policy = _log_probs(_run(self.policy, batch))
        ref = reference.log_probs if isinstance(reference, PlainStates) else None
        kl = None
        if needs.kl and ref is not None:
            kl = _at_sources((ref.exp() * (ref - policy)).sum(-1), batch)
        ref_logps = None if ref is None else _of_next_token(ref, batch)
        return self.statistics(batch, reference, _of_next_token(policy, batch), ref_logps, kl)


def _run(model: PreTrainedModel, batch: PackedBatch) -> Any:
    if len(batch.input_ids) != batch.response_mask.shape[0] * len(batch.pair_ids):
        raise ValueError("the plain form takes one row per response")
    return model(input_ids=batch.input_ids, attention_mask=_padding_mask(batch), use_cache=False)


def _padding_mask(batch: PackedBatch) -> Tensor:
    return (batch.pair_index != PADDING).long()


def _log_probs(output: Any) -> Float[Tensor, "rows length V"]:
    logits: Tensor = output.logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _of_next_token(
    log_probs: Float[Tensor, "rows length V"], batch: PackedBatch
) -> Float[Tensor, " N"]:
    labels = batch.input_ids.roll(-1, 1)  # the last one wraps around, and no response reads it
    return _at_sources(log_probs.gather(-1, labels[..., None])[..., 0], batch)


def _at_sources(values: Float[Tensor, "rows length"], batch: PackedBatch) -> Float[Tensor, " N"]:
    return values.flatten()[batch.sources]
