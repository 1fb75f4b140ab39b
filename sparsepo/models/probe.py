"""One small forward pass that records the modules that a model calls, with inputs and outputs.

Module roles are inferred from this record: equal tensors are the same stream, and a tensor whose
gradient reaches a module was computed from its output. Module names play almost no part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sparsepo.errors import UserError, first_line
from sparsepo.models.attention_inputs import (
    MatrixProducts,
    Product,
    first_states,
    interface_calls,
    of_products,
)
from sparsepo.models.implementations import use_implementation

ROWS, LENGTH = 2, 7
"""Shape of the token ids; the length differs from every dimension of a model."""


_probing = ContextVar("probing", default=False)


def is_probing() -> bool:
    """Return whether a model runs only to be analysed; capturing hooks ignore such a run."""
    return _probing.get()


@dataclass
class Call:
    """One call of a module."""

    name: str
    """Dotted name, relative to the model."""
    module: nn.Module
    start: int
    """When the call started, on a clock shared by all calls."""
    end: int = -1
    """When the call ended."""
    arguments: int = 0
    routing: Tensor | None = None
    """The first two-dimensional tensor of integers among the arguments: each token's experts, if
    the module holds routed experts."""
    given: Tensor | None = None
    """A copy of the first floating-point tensor among the arguments."""
    output: Tensor | None = None
    """A copy of the output (of a tuple, the first item); None if it is not a floating-point
    tensor."""
    made: Tensor | None = None
    """The output of a projection, as the leaf for which gradients are computed."""
    products: list[Product] = field(default_factory=list)

    def contains(self, other: Call) -> bool:
        """Return whether the other call happened within this one."""
        return self.start < other.start and other.end < self.end

    @property
    def depth(self) -> int:
        """The module's depth in the model."""
        return self.name.count(".")


@dataclass
class AttentionCall:
    """One call of an attention kernel."""

    module: Call
    """The module that called it."""
    time: int
    query: Tensor
    key: Tensor
    value: Tensor
    through_interface: bool
    """Whether it went through transformers' attention interface."""


@dataclass
class Probe:
    """The record of one run of a model without its head."""

    calls: list[Call]
    """In order of their start."""
    attentions: list[AttentionCall]
    last_hidden: Float[Tensor, "rows length d"]

    def within(self, outer: Call) -> list[Call]:
        """Return the calls that happened within another one."""
        return [call for call in self.calls if outer.contains(call)]

    def of(self, module: nn.Module) -> list[Call]:
        """Return the calls of a module."""
        return [call for call in self.calls if call.module is module]


def is_projection(module: nn.Module) -> bool:
    """Return whether a module is a linear map, plain, transposed, quantized or with adapters."""
    return isinstance(module, nn.Linear | Conv1D) or hasattr(module, "base_layer")


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm: any class of LayerNorm or RMSNorm."""
    return "norm" in type(module).__name__.lower() and not any(module.children())


def hidden_states(call: Call) -> Float[Tensor, "rows length d"] | None:
    """Return a call's output if it has the shape of hidden states."""
    output = call.output
    if output is None or output.ndim != 3 or output.shape[:2] != (ROWS, LENGTH):
        return None
    return output


def probe(model: PreTrainedModel) -> Probe:
    """Run a model without its head on a few tokens and record the calls of its modules.

    Weights, random state and training modes are left unchanged.

    Args:
        model: a transformers model, without a PEFT wrapper; it may contain adapters.

    Raises:
        UserError: the model needs more inputs than token ids.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[Call] = []
    stack: list[Call] = []
    attentions: list[AttentionCall] = []
    clock = iter(range(1 << 62))

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = Call(names[module], module, next(clock))
        given = first_states(args, kwargs)
        call.given = None if given is None else _by_token(given)
        call.arguments = len(args) + len(kwargs)
        call.routing = routing(args, kwargs)
        calls.append(call)
        stack.append(call)

    def leave(module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Any:
        call = stack.pop()
        while call.module is not module:  # a call that an exception or a hook cut short
            call = stack.pop()
        call.end = next(clock)
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(first, Tensor) or not first.is_floating_point():
            return None
        call.output = _by_token(first)
        found = of_products(call.products, ROWS) if call.products else None
        if found is not None and found[0].shape[2] == LENGTH:
            attentions.append(AttentionCall(call, call.end, *found, through_interface=False))
        if isinstance(output, Tensor) and is_projection(module):
            # Detached here, so gradients of queries and keys stop at the nearest projections.
            call.made = first.detach().requires_grad_()
            return call.made.clone()
        return None

    def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        caller = next((call for call in reversed(stack) if call.module is module), None)
        if caller is not None:
            attentions.append(
                AttentionCall(caller, next(clock), query, key, value, through_interface=True)
            )
            caller.products.clear()

    def product(left: Tensor, right: Tensor, value: Tensor | None) -> None:
        if stack and not any(found.module is stack[-1] for found in attentions):
            stack[-1].products.append((left, right, value))

    base: Any = model.base_model
    embedding: Any = model.get_input_embeddings()
    count = embedding.weight.shape[0]
    ids = (torch.arange(ROWS * LENGTH) % max(count - 1, 1) + 1).clamp(max=count - 1)
    ids = ids.view(ROWS, LENGTH).to(model.device)
    handles: list[Any] = []
    token = _probing.set(True)
    try:
        with (
            _as_for_reading(model),
            torch.enable_grad(),
            interface_calls(attention),
            MatrixProducts(product),
        ):
            for module in names:
                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(module.register_forward_hook(leave, with_kwargs=True))
            output = base(input_ids=ids, use_cache=False)
    except Exception as error:
        raise UserError(
            f"The modules of this {model.config.model_type} model cannot be found, because it does "
            f"not run on token ids alone ({first_line(error)}); use a method without masks, such "
            "as dpo or tdpo1."
        ) from error
    finally:
        _probing.reset(token)
        for handle in handles:
            handle.remove()
    last = getattr(output, "last_hidden_state", None)
    last = output[0] if last is None else last
    return Probe(calls, attentions, last.detach())


def routing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the experts of each token, (tokens, experts), if they are among the arguments."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dtype == torch.long and value.ndim == 2:
            return value
    return None


def _by_token(values: Tensor) -> Tensor:
    """Return a copy, with rows and positions as two dimensions if a model had merged them."""
    copy = values.detach().clone()
    return copy.unflatten(0, (ROWS, LENGTH)) if copy.shape[:1] == (ROWS * LENGTH,) else copy


@contextlib.contextmanager
def _as_for_reading(model: PreTrainedModel) -> Iterator[None]:
    """Put a model into evaluation mode, with kernels that run anywhere and experts one by one."""
    modules = list(model.modules())
    modes = [module.training for module in modules]
    try:
        for module in modules:
            # A quantized layer of bitsandbytes repacks its weights in evaluation mode.
            if not type(module).__module__.startswith("bitsandbytes"):
                module.training = False
        with (
            use_implementation(model, "attn", lambda name: "sdpa" if name == "sdpa" else "eager"),
            use_implementation(model, "experts", lambda _: "eager"),
        ):
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
