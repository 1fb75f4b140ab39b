"""The frozen reference: what it gives the loss and the masks, response positions only."""

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
from sparsepo.models.plain import Computation, at_sources, log_probs_of, run_whole
from sparsepo.types import PackedBatch


@dataclass(frozen=True)
class ReferenceStates:
    """What the reference says of a batch of N response tokens; None where nobody asked."""

    hidden: Float[Tensor, "N d"] | None = None
    """Final states at the predicting positions; the output projection turns them into logits. None
    where a cache says what is needed, so that the model did not run."""
    head: Float[Tensor, "V d"] | None = None
    bias: Float[Tensor, " V"] | None = None
    transform: LogitTransform = IDENTITY
    """What becomes of the projection's output."""
    layers: list[Float[Tensor, "N d"]] | None = None
    """Every layer's states there, the last after the final norm: the learned masks' input."""
    activation_mask: Float[Tensor, "responses pairs tokens"] | None = None
    logps: Float[Tensor, "responses pairs tokens"] | None = None
    """log π_ref(y_t) from a cache, in nats; made from hidden and head where None."""
    log_probs: Float[Tensor, "rows length V"] | None = None
    """The plain form's whole distributions, which take the place of hidden and head there."""


def unwrap_peft(model: PreTrainedModel) -> PreTrainedModel:
    """Return the transformers model inside a PEFT model; any other model as it is."""
    outer: Any = model
    inner: PreTrainedModel = outer.get_base_model() if has_adapters(model) else model
    return inner


def mask_settings(method: Method) -> tuple[tuple[str, ...], str]:
    """Return (families, mapping) of a method's activation mask: its own, or MaPO's defaults."""
    mapo = method if isinstance(method, MaPO) else MaPO()
    return mapo.families, mapo.mask_mapping


class Reference:
    """The frozen reference model: a copy of the policy's start, or the policy at its start."""

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
            shared_with_policy: the reference is the policy itself: with its adapters switched off
                or, where they were trained before, with a frozen copy of them in their place;
                without adapters only as long as nothing was trained.
            computation: how it reads a batch, which is laid out for it accordingly.
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

        With PEFT the base model is shared, so that no second copy of it is held.

        Args:
            policy: the policy before training.
            share: False makes a copy even so; FSDP gathers a policy's weights for its own forward.
            computation: how it reads a batch.
        """
        if share and has_adapters(policy):
            return cls(policy, shared_with_policy=True, computation=computation)
        return cls(copy.deepcopy(policy), computation=computation)

    @property
    def without_adapters(self) -> bool:
        """Whether adapters inside the model are switched off while it runs."""
        return self.within_policy and self._start is None

    @property
    def within_policy(self) -> bool:
        """Whether it is the policy under other adapters or none, so that it takes no memory."""
        return self._shared and has_adapters(self._outer)

    @property
    def adapter_settings(self) -> dict[str, Any] | None:
        """The configuration of the adapters that have a part in it, as JSON data; None without."""
        if self.without_adapters or not has_adapters(self._outer):
            return None
        named = {name: config.to_dict() for name, config in self._outer.peft_config.items()}
        text = json.dumps(named, default=lambda v: sorted(v) if isinstance(v, set) else str(v))
        data: dict[str, dict[str, Any]] = json.loads(text)
        # Where the base model lies, and whether adapters may be trained, moves no number.
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
        """Cast the weights (not rotary tables and their like), as FSDP casts a policy's."""
        if not self._shared:
            for weight in self.model.parameters():
                weight.data = weight.data.to(dtype)

    @torch.no_grad()
    def read(self, batch: PackedBatch, method: Method, needs: Needs) -> ReferenceStates:
        """Run the reference on a batch and keep what the method's needs name.

        Args:
            batch: on the reference's device.
            method: its hyper-parameters describe an activation mask.
            needs: what to read; the method's own, or more.
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
                found["logits"] = [FeatureMean(*(at_sources(v, batch) for v in reduced))]
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
    """Return the MaPO mask of what a batch's activations were reduced to.

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
