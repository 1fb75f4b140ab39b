"""The frozen reference: its states and statistics at response positions, for loss and masks."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.batches.attention import attention_mask_for
from sparsepo.batches.pack import to_responses
from sparsepo.errors import UserError
from sparsepo.fused import IDENTITY, LogitTransform
from sparsepo.masks import FeatureMean, combine_activations, feature_mean
from sparsepo.methods.base import Method, Needs
from sparsepo.methods.mapo import MaPO
from sparsepo.models.adapters import evaluate_as, has_adapters, keep_start
from sparsepo.models.capture import (
    capture_activations,
    capture_layers,
    mean_logits,
)
from sparsepo.models.head import find_head
from sparsepo.models.plain import Computation, at_predictors, log_probs_of, run_whole
from sparsepo.types import PackedBatch


@dataclass(frozen=True)
class ReferenceStates:
    """The reference's output for a batch of N response tokens; None if not requested."""

    hidden: Float[Tensor, "N d"] | None = None
    """Final states at the predicting positions; the output projection turns them into logits. None
    if all values came from a cache and the model did not run."""
    head: Float[Tensor, "V d"] | None = None
    bias: Float[Tensor, " V"] | None = None
    transform: LogitTransform = IDENTITY
    """The transform of the projection's output."""
    layers: list[Float[Tensor, "N d"]] | None = None
    """The states of all layers at the same positions, the last after the final norm: the input of
    learned masks."""
    activation_mask: Float[Tensor, "responses pairs tokens"] | None = None
    given_masks: (
        tuple[Float[Tensor, "responses pairs tokens"], Float[Tensor, "responses pairs tokens"]]
        | None
    ) = None
    """(reward, KL) masks that the user has given; they are no output of the model."""
    logps: Float[Tensor, "responses pairs tokens"] | None = None
    """log π_ref(y_t) from a cache, in nats; if None, computed from hidden and head."""
    log_probs: Float[Tensor, "rows length V"] | None = None
    """Full distributions, which replace hidden and head in the reference implementation."""


def unwrap_peft(model: PreTrainedModel) -> PreTrainedModel:
    """Return the transformers model inside a PEFT model; any other model unchanged."""
    outer: Any = model
    inner: PreTrainedModel = outer.get_base_model() if has_adapters(model) else model
    return inner


def mask_settings(method: Method) -> tuple[tuple[str, ...], str]:
    """Return (families, mapping) of a method's activation mask: its own, or MaPO's defaults."""
    mapo = method if isinstance(method, MaPO) else MaPO()
    return mapo.families, mapo.mask_mapping


class Reference:
    """The frozen reference model: a copy of the initial policy, or the policy without adapters."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        shared_with_policy: bool = False,
        computation: Computation = "packed",
    ) -> None:
        """Freeze the model.

        Args:
            model: the reference; for a PEFT policy the policy itself.
            shared_with_policy: the reference is the policy itself, with its adapters disabled or,
                if they had been trained before, replaced by a frozen copy. Without adapters this
                is valid only until the first training step.
            computation: how batches, which must be packed accordingly, are computed.
        """
        self._outer: Any = model
        self._shared = shared_with_policy
        self._start = keep_start(model) if shared_with_policy and has_adapters(model) else None
        self.model = unwrap_peft(model)
        self.computation: Computation = computation
        self.output_head = find_head(self.model)
        if not shared_with_policy:
            self.model.eval().requires_grad_(False)

    @classmethod
    def of_policy(
        cls, policy: PreTrainedModel, *, share: bool = True, computation: Computation = "packed"
    ) -> Reference:
        """Return the reference that a policy starts from.

        With PEFT the base model is shared, which avoids a second copy.

        Args:
            policy: the policy before training.
            share: False copies it anyway; FSDP gathers weights only for the policy's own forward.
            computation: how batches are computed.
        """
        if share and has_adapters(policy):
            return cls(policy, shared_with_policy=True, computation=computation)
        return cls(copy.deepcopy(policy), computation=computation)

    @property
    def without_adapters(self) -> bool:
        """Whether adapters inside the model are disabled while it runs."""
        return self.within_policy and self._start is None

    @property
    def within_policy(self) -> bool:
        """Whether it is the policy with other adapters or none, which takes no extra memory."""
        return self._shared and has_adapters(self._outer)

    @property
    def adapter_settings(self) -> dict[str, Any] | None:
        """The configuration of the reference's adapters as JSON data; None if it has none."""
        if self.without_adapters or not has_adapters(self._outer):
            return None
        named = {name: config.to_dict() for name, config in self._outer.peft_config.items()}
        text = json.dumps(named, default=lambda v: sorted(v) if isinstance(v, set) else str(v))
        data: dict[str, dict[str, Any]] = json.loads(text)
        # The path of the base model and whether adapters are trainable affect no value.
        unread = ("base_model_name_or_path", "inference_mode")
        return {
            name: {key: value for key, value in config.items() if key not in unread}
            for name, config in data.items()
        }

    def to(self, device: torch.device) -> Reference:
        """Move the model to a device (in place) and return the reference."""
        if not self._shared:
            nn.Module.to(self.model, device)
        return self

    def compute_in(self, dtype: torch.dtype) -> None:
        """Cast the weights (but not buffers such as rotary tables), as FSDP does for a policy."""
        if not self._shared:
            for weight in self.model.parameters():
                weight.data = weight.data.to(dtype)

    @torch.no_grad()
    def read(self, batch: PackedBatch, method: Method, needs: Needs) -> ReferenceStates:
        """Run the reference on a batch and return the states that are needed.

        Args:
            batch: on the reference's device.
            method: the method, whose hyper-parameters describe an activation mask.
            needs: what to return: the method's needs, or more.
        """
        was_training = self.model.training
        evaluate_as(self.model, was_training)
        try:
            with self._as_it_started():
                return self._read(batch, method, needs)
        finally:
            self.model.train(was_training)

    @contextlib.contextmanager
    def _as_it_started(self) -> Iterator[None]:
        if self.without_adapters:
            with self._outer.disable_adapter():
                yield
        elif self._start is not None:
            active = self._outer.active_adapter
            self._outer.set_adapter(self._start, inference_mode=True)
            try:
                yield
            finally:
                self._outer.set_adapter(active)
        else:
            yield

    def _read(self, batch: PackedBatch, method: Method, needs: Needs) -> ReferenceStates:
        if self.computation != "packed":
            return self._read_plainly(batch, method, needs)
        head, bias = self.output_head.weights(self.model)
        transform = self.output_head.transform

        def run() -> Tensor:
            mask = attention_mask_for(self.model, batch)
            return self.output_head.final_states(self.model, batch, mask)

        if needs.mask in ("learned-common", "learned-independent"):
            last_only = getattr(method, "mask_layers", "all") == "last"
            with capture_layers(self.model, batch, last_only) as layers:
                hidden = run()
            return ReferenceStates(hidden, head, bias, transform, layers=layers)
        if needs.mask == "activation":
            families, mapping = mask_settings(method)
            inside = tuple(family for family in families if family != "logits")
            with capture_activations(self.model, batch, inside) as found:
                hidden = run()
            if "logits" in families:
                found["logits"] = [mean_logits(hidden, head, bias, transform)]
            activation_mask = mask_of_captures(found, batch, mapping)
            return ReferenceStates(hidden, head, bias, transform, activation_mask=activation_mask)
        return ReferenceStates(run(), head, bias, transform)

    def _read_plainly(self, batch: PackedBatch, method: Method, needs: Needs) -> ReferenceStates:
        form = self.computation
        if form == "alone" and needs.mask != "none":
            raise UserError(
                f"Masks cannot be computed for this {self.model.config.model_type} model, because "
                "padding changes what it computes; use a method without masks, such as dpo or "
                "tdpo1."
            )
        if needs.mask == "activation":
            families, mapping = mask_settings(method)
            inside = tuple(family for family in families if family != "logits")
            with capture_activations(self.model, batch, inside) as found:
                output = run_whole(self.model, batch, form)
            if "logits" in families:
                reduced = feature_mean(output.logits)
                found["logits"] = [FeatureMean(*(at_predictors(v, batch) for v in reduced))]
            return ReferenceStates(
                activation_mask=mask_of_captures(found, batch, mapping),
                log_probs=log_probs_of(output),
            )
        if needs.mask == "none":
            return ReferenceStates(log_probs=log_probs_of(run_whole(self.model, batch, form)))
        last_only = getattr(method, "mask_layers", "all") == "last"
        with capture_layers(self.model, batch, last_only) as layers:
            output = run_whole(self.model, batch, form)
        return ReferenceStates(layers=layers, log_probs=log_probs_of(output))


def mask_of_captures(
    found: dict[str, list[FeatureMean]], batch: PackedBatch, mapping: str
) -> Float[Tensor, "responses pairs tokens"]:
    """Return the MaPO mask of a batch, given the feature means of its activations.

    Args:
        found: family → feature means at the predicting positions, (N,) each.
        batch: the batch.
        mapping: MaPO's mask_mapping.
    """
    sides, pairs, tokens = batch.response_mask.shape
    captures = {
        family: [
            FeatureMean(*(to_responses(values, batch).flatten(0, 1) for values in reduced))
            for reduced in tensors
        ]
        for family, tensors in found.items()
    }
    mask = combine_activations(captures, batch.response_mask.flatten(0, 1), mapping)  # type: ignore[arg-type]
    return mask.view(sides, pairs, tokens)
