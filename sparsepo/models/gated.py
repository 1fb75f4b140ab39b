"""Gated MLPs, down(act(gate(x)) · up(x)), that keep one tensor less for the backward pass.

Between act and the product transformers leaves act(gate(x)) to autograd, a tensor as wide as the
MLP for every token and layer. Here the backward pass computes it again from gate(x), which it needs
in any case. Values and gradients are the same up to rounding.

A module takes its usual way under autocast, in other dtypes than float32, on other devices than a
CPU, where this has not been measured, and where a hook has to see its activation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CLASSES = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "GemmaMLP", "Gemma2MLP", "Gemma3MLP"}
"""Classes of transformers whose forward pass is down(act(gate(x)) · up(x)) and nothing else."""


def fuse_gates(model: nn.Module) -> int:
    """Let gated MLPs compute activation and product as one operation.

    Weights, configuration and saved files do not change.

    Args:
        model: changed in place.

    Returns:
        The number of modules changed.
    """
    changed = 0
    for module in list(model.modules()):
        if not isinstance(module, _Fused) and _activation(module) is not None:
            module.__class__ = _fused(type(module))
            changed += 1
    return changed


class _Fused:
    """A module whose class was replaced; it can be copied and pickled like any other."""

    original: type[nn.Module]

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _new, (self.original,), self.__dict__

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        activation = _activation(self)
        watched = self.act_fn._forward_hooks or self.act_fn._forward_pre_hooks
        if args or kwargs or activation is None or watched or not _applies(x):
            return self.original.forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]
        result: Tensor = self.down_proj(_Gate.apply(self.gate_proj(x), self.up_proj(x), activation))
        return result


_made: dict[type[nn.Module], type[nn.Module]] = {}


def _fused(original: type[nn.Module]) -> type[nn.Module]:
    """Return a module's class with another forward pass."""
    if original in _made:
        return _made[original]
    names = {"original": original, "__doc__": original.__doc__}
    made: Any = type(original.__name__, (_Fused, original), names)
    _made[original] = made
    return _made[original]


def _new(original: type[nn.Module]) -> Any:
    cls = _fused(original)
    return cls.__new__(cls)


def _applies(x: Tensor) -> bool:
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    )


def _activation(module: nn.Module) -> str | None:
    """Return "silu" or "gelu" for a gated MLP with that activation; None for any other module."""
    if type(module).__name__ not in _CLASSES:
        return None
    activation = getattr(module, "act_fn", None)
    if isinstance(activation, nn.SiLU) or type(activation).__name__ == "SiLUActivation":
        return "silu"
    return "gelu" if type(activation).__name__ == "GELUTanh" else None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: str) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return _activated(gate, activation).mul_(up)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        grad_up = _activated(gate, ctx.activation).mul_(grad)
        grad_gate = grad * up
        aten = torch.ops.aten
        if ctx.activation == "silu":
            grad_gate = aten.silu_backward(grad_gate, gate)
        else:
            grad_gate = aten.gelu_backward(grad_gate, gate, approximate="tanh")
        return grad_gate, grad_up, None


def _activated(gate: Tensor, activation: str) -> Tensor:
    return F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")
