"""How a model turns its final hidden states into logits, found by running its own forward pass.

Many models do more than project: Gemma 2 soft-caps its logits, Cohere multiplies them, Granite
divides them, MiniCPM 3 divides the hidden states, ModernBERT adds another dense layer, and others
cut off the vocabulary's padding. Each has its own option for this. The transform is therefore read
from the model's own forward pass: for one call, known numbers replace the outputs of body and
projection, and the model's output shows how they were transformed. The weights are not involved:
this costs next to nothing and works on any device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.batches.attention import AttentionMask
from sparsepo.fused import IDENTITY, LogitTransform
from sparsepo.models.capture import output_head, run_body
from sparsepo.types import PackedBatch

_SPREADS = (1e-2, 1.0, 30.0, 1e8)
"""Standard deviations of the numbers that replace logits: from the linear range of a soft cap to
full saturation."""

_EXACT = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Relative difference up to which a transform matches the model's, by dtype of the output."""


@dataclass(frozen=True)
class OutputHead:
    """How a model turns the final hidden states of its body into logits."""

    transform: LogitTransform = IDENTITY
    words: int | None = None
    """Rows of the projection that are in the vocabulary; None for all. The rest is padding."""
    before: str | None = None
    """Name of the module that final states pass through before the projection."""
    unknown: bool = False
    """Whether the model transforms its logits in a way that only its own forward pass computes."""

    def weights(
        self, model: PreTrainedModel
    ) -> tuple[Float[Tensor, "V d"], Float[Tensor, " V"] | None]:
        """Return the projection's weight and bias (None if it has none), without padding."""
        weight, bias = output_head(model)
        if self.words is None:
            return weight, bias
        return weight[: self.words], None if bias is None else bias[: self.words]

    def final_states(
        self, model: PreTrainedModel, batch: PackedBatch, mask: AttentionMask
    ) -> Float[Tensor, "N d"]:
        """Run a model up to its projection; return its states at the predicting positions."""
        hidden = run_body(model, batch, mask)
        return self.after_body(model, hidden)

    def after_body(
        self, model: PreTrainedModel, hidden: Float[Tensor, "N d"]
    ) -> Float[Tensor, "N d"]:
        """Return what the projection reads, given the body's final states."""
        if self.before is None:
            return hidden
        states: Tensor = model.get_submodule(self.before)(hidden)
        return states


def find_head(model: PreTrainedModel) -> OutputHead:
    """Return how a model turns its body's final states into logits.

    Args:
        model: a transformers model, without adapters around it. Its own forward pass runs, with
            known numbers in place of hidden states and logits.

    Returns:
        The bare projection if the forward pass cannot be analysed in this way; the start check
        compares it with the model.
    """
    found = OutputHead()
    # float32 is more precise, but a module between body and projection accepts only its own dtype.
    for dtype in dict.fromkeys((torch.float32, model.dtype)):
        try:
            seen = _follow(model, dtype)
        except Exception:
            # A forward pass that fails on these numbers reveals nothing about the head.
            continue
        if seen is not None:
            found = _identify(model, seen)
            if not found.unknown:
                return found
    return found


@dataclass
class _Seen:
    """The record of a forward pass with known numbers."""

    hidden: Tensor
    """Replacement for the body's output, if `replaced`."""
    replaced: bool = False
    projected: Tensor | None = None
    """Input of the projection."""
    raw: Tensor | None = None
    """Replacement for the projection's output."""
    logits: Tensor | None = None
    """Output of the model."""
    passed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Name of a module outside the body → its input and its output."""


class _BodyOutput:
    """A body's output that contains only final states; every other attribute is None."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]


@contextlib.contextmanager
def _in_place_of_forward(module: nn.Module, function: Any) -> Iterator[None]:
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = function
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if own is not None:
            module.__dict__["forward"] = own


def _follow(model: PreTrainedModel, dtype: torch.dtype) -> _Seen | None:
    body: Any = model.base_model
    projection: Any = model.get_output_embeddings()
    if body is model or projection is None:
        return None
    weight, _ = output_head(model)
    device = torch.device("cpu") if model.device.type == "meta" else model.device
    generator = torch.Generator().manual_seed(0)
    tokens = len(_SPREADS)
    width = getattr(model.config, "hidden_size", weight.shape[1])
    hidden = torch.randn(1, tokens, width, generator=generator).to(device, dtype)
    spreads = torch.tensor(_SPREADS, dtype=torch.float64)[:, None]
    draws = torch.randn(tokens, weight.shape[0], generator=generator, dtype=torch.float64)
    raw = (draws * spreads)[None].to(device)
    seen = _Seen(hidden)

    def run_no_body(*_args: Any, **_kwargs: Any) -> Any:
        seen.replaced = True
        return _BodyOutput(hidden)

    def project(states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        seen.projected, seen.raw = states, raw
        return raw.clone()

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                seen.passed[name] = (inputs[0], output)

        return hook

    inside = {id(module) for module in body.modules()}
    training = {module: module.training for module in model.modules()}
    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if id(module) not in inside and module is not model and module is not projection
    ]
    try:
        model.eval()
        # Gradients show whether trained weights are involved in the transform.
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            _in_place_of_forward(body, run_no_body),
            _in_place_of_forward(projection, project),
        ):
            ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
            seen.logits = model(input_ids=ids, use_cache=False, return_dict=True).logits
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return seen if seen.raw is not None else None


def _identify(model: PreTrainedModel, seen: _Seen) -> OutputHead:
    logits, raw, projected = seen.logits, seen.raw, seen.projected
    assert logits is not None and raw is not None and projected is not None
    unknown = OutputHead(unknown=True)
    if logits.requires_grad or logits.ndim != raw.ndim or logits.shape[-1] > raw.shape[-1]:
        return unknown
    words = logits.shape[-1] if logits.shape[-1] < raw.shape[-1] else None
    transform = _fit(raw[0, :, :words], logits[0])
    if transform is None:
        return unknown
    before = None
    # A model that runs only a part of its body projects real states, which reveal nothing.
    if seen.replaced and not _same(projected, seen.hidden):
        factor = _ratio(seen.hidden, projected) if projected.dtype in _EXACT else None
        if factor is not None and output_head(model)[1] is None:
            transform = transform._replace(scale=transform.scale * factor)
        else:
            before = _module_between(seen)
            if before is None:
                return unknown
    return OutputHead(transform, words, before)


def _fit(raw: Float[Tensor, "n V"], logits: Float[Tensor, "n V"]) -> LogitTransform | None:
    """Return the transform from raw values to logits; None if there is none."""
    exact = _EXACT.get(logits.dtype)
    if exact is None:
        return None
    wanted = logits.detach().double()
    scale = _ratio(raw, wanted, exact)
    if scale is not None:
        found = LogitTransform(scale)
    else:
        cap = float(wanted[-1].abs().max())
        if not 0 < cap < float("inf"):
            return None
        # The scale is most accurate where the slope is neither 1 nor 0.
        shares = (wanted / cap).flatten()
        place = int((shares.abs() - 0.5).abs().argmin())
        scale = float(cap * shares[place].atanh() / raw.flatten()[place])
        found = LogitTransform(1.0 if abs(scale - 1) < exact else scale, cap)
    ours = found.apply_(raw.clone())
    # A float32 tanh is accurate relative to the cap, not relative to its own size.
    atol = exact * (found.cap or 0.0)
    return found if torch.allclose(ours, wanted, rtol=exact, atol=atol) else None


def _ratio(before: Tensor, after: Tensor, exact: float = 1e-5) -> float | None:
    """Return the constant c in after = c·before; None if there is none."""
    if before.shape != after.shape:
        return None
    before, after = before.detach().double(), after.detach().double()
    ratio = float((before * after).sum() / before.square().sum())
    if not ratio > 0 or not torch.allclose(after, ratio * before, rtol=exact, atol=0.0):
        return None
    return 1.0 if abs(ratio - 1) < exact / 10 else ratio


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left == right.to(left.dtype)).all())


def _module_between(seen: _Seen) -> str | None:
    """Return the name of the module between the body's states and the projection."""
    assert seen.projected is not None
    for name, (given, returned) in seen.passed.items():
        if _same(given, seen.hidden) and _same(returned, seen.projected):
            return name
    return None
