"""Adapters, RMS norms and gated MLPs with one differentiable operation each, on a CPU.

transformers and PEFT compute them in many passes over memory, most of which the backward pass
repeats, and keep what lies between. Beside the matrix products these passes are most of a step.
The operations here keep only their inputs and work in place on what they have just made; values and
gradients are the same up to rounding.

A module takes its usual way where this one does not apply: on other devices, in other dtypes than
float32, under autocast, with sharded weights, with several or with merged adapters, with dropout,
and where a hook has to see what lies between.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F

_TOLERANCE = 1e-5
"""Relative difference up to which a norm is the one that its name says."""


def fuse_layers(model: nn.Module) -> int:
    """Let adapters, RMS norms and gated MLPs compute with one operation each.

    Weights, configuration and saved files do not change.

    Args:
        model: changed in place.

    Returns:
        The number of modules changed.
    """
    changed = 0
    for module in list(model.modules()):
        base: type | None = None
        if isinstance(module, _Fused):
            continue
        if type(module) is LoraLinear:
            base = _FusedLora
        elif _gate(module) is not None:
            base = _FusedMLP
        elif (offset := _norm_offset(module)) is not None:
            base = _FusedNorm
            module.__dict__["fused_offset"] = offset
        if base is not None:
            module.__class__ = _fused(type(module), base)
            changed += 1
    return changed


class _Fused:
    """A module whose class was replaced; it can be copied and pickled like any other."""

    original: type[nn.Module]
    base: type

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _new, (self.original, self.base), self.__dict__


@functools.cache
def _fused(original: type[nn.Module], base: type) -> type[nn.Module]:
    """Return a module's class with another forward pass."""
    names = {"original": original, "base": base, "__doc__": original.__doc__}
    made: Any = type(original.__name__, (base, original), names)
    found: type[nn.Module] = made
    return found


def _new(original: type[nn.Module], base: type) -> Any:
    cls = _fused(original, base)
    return cls.__new__(cls)


def _plain(weights: Iterable[Tensor | None]) -> bool:
    """Return whether weights are ordinary float32 tensors of this process."""
    return all(
        w is None or (type(w) in (nn.Parameter, Tensor) and w.dtype == torch.float32)
        for w in weights
    )


def _applies(x: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _watched(*modules: nn.Module) -> bool:
    """Return whether a hook has to see what a module receives or returns."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in modules
    )


# LoRA: W x + b + s · B A x


class _FusedLora(_Fused):
    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        active = [name for name in self.active_adapters if name in self.lora_A]
        if (
            args
            or kwargs
            or len(active) != 1
            or self.disable_adapters
            or self.merged
            or active[0] in self.lora_variant
            or not _applies(x)
        ):
            return self.original.forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]
        base, name = self.base_layer, active[0]
        down, up, dropout = self.lora_A[name], self.lora_B[name], self.lora_dropout[name]
        drops = not isinstance(dropout, nn.Identity) and dropout.training and dropout.p > 0
        weights = (base.weight, base.bias, down.weight, up.weight) if _is_linear(base) else ()
        if (
            drops
            or not weights
            or type(down) is not nn.Linear
            or up.bias is not None
            or any(w is not None and w.requires_grad for w in weights[:2])
            or not _plain(weights)
            or _watched(base, down, up, dropout)
        ):
            return self.original.forward(self, x)  # type: ignore[no-any-return]
        result: Tensor = _Lora.apply(x, *weights, float(self.scaling[name]))
        return result


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear


class _Lora(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ down.T
        result = F.linear(rows, weight, bias).addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(x, low, weight, down, up)
        ctx.scale = scale
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, weight, down, up = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = (grad @ up).mul_(ctx.scale)
        grad_x = grad_down = grad_up = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.mm(grad, weight).addmm_(grad_low, down).view(x.shape)
        if ctx.needs_input_grad[3]:
            grad_down = grad_low.T @ x.reshape(-1, x.shape[-1])
        if ctx.needs_input_grad[4]:
            grad_up = (grad.T @ low).mul_(ctx.scale)
        return grad_x, None, None, grad_down, grad_up, None


# RMS norms: w x / √(mean x² + ε), with w or 1 + w


class _FusedNorm(_Fused):
    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not _applies(x) or not _plain([self.weight]):
            return self.original.forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]
        offset = self.fused_offset
        weight = self.weight + offset if offset else self.weight
        result: Tensor = _Norm.apply(x, weight, _epsilon(self))
        return result


def _epsilon(module: nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None


@torch.no_grad()
def _norm_offset(module: nn.Module) -> float | None:
    """Return what an RMS norm adds to its weight; None for any other module."""
    weight = getattr(module, "weight", None)
    if (
        "RMSNorm" not in type(module).__name__
        or _epsilon(module) is None
        or any(module.children())
        or [name for name, _ in module.named_parameters()] != ["weight"]
        or not isinstance(weight, Tensor)
        or weight.ndim != 1
        or weight.device.type != "cpu"
        or weight.dtype != torch.float32
        or _watched(module)
    ):
        return None
    x = torch.linspace(-2, 3, 2 * len(weight)).view(2, -1)
    try:
        wanted = module(x)
    except Exception:
        # It takes more than states.
        return None
    normal = x * (x.square().mean(-1, keepdim=True) + _epsilon(module)).rsqrt()
    for offset in (0.0, 1.0):
        found = normal * (weight + offset)
        if isinstance(wanted, Tensor) and torch.allclose(
            found, wanted, rtol=_TOLERANCE, atol=_TOLERANCE * float(wanted.abs().max())
        ):
            return offset
    return None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        squares = torch.linalg.vecdot(x, x)[..., None]
        inverse = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            products = (grad * x).mul_(inverse)
            grad_weight = products.reshape(-1, x.shape[-1]).sum(0)
        if ctx.needs_input_grad[0]:
            grad_x = grad * weight
            # d/dx of x r with r = (mean x² + ε)^(−1/2): r (g − x r² mean(g x)).
            means = torch.linalg.vecdot(grad_x, x)[..., None].div_(x.shape[-1])
            grad_x.addcmul_(x, means.mul_(inverse).mul_(inverse), value=-1).mul_(inverse)
        return grad_x, grad_weight, None


# Gated MLPs: down(act(gate(x)) · up(x))


class _FusedMLP(_Fused):
    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        activation = _gate(self)
        if args or kwargs or activation is None or not _applies(x) or _watched(self.act_fn):
            return self.original.forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]
        gate, up = self.gate_proj(x), self.up_proj(x)
        if not (_applies(gate) and _applies(up)):
            return self.original.forward(self, x)  # type: ignore[no-any-return]
        result: Tensor = self.down_proj(_Gate.apply(gate, up, activation))
        return result


_GATED = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "GemmaMLP", "Gemma2MLP", "Gemma3MLP"}
"""Classes of transformers whose forward pass is down(act(gate(x)) · up(x)) and nothing else."""


def _gate(module: nn.Module) -> str | None:
    """Return "silu" or "gelu" for a gated MLP with that activation; None for any other module."""
    if type(module).__name__ not in _GATED:
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
