"""Fused activation functions for those that transformers computes in eight operations."""

from __future__ import annotations

from torch import nn
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation

_SPELLED_OUT = (NewGELUActivation, FastGELUActivation)


def fuse_activations(model: nn.Module) -> int:
    """Replace the tanh form of GELU, written as Python arithmetic, with PyTorch's operation.

    0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))): the same function up to rounding. GPT-2 and GPT-J
    compute it in eight passes over memory and keep five tensors for the backward pass. Weights,
    configuration and saved files do not change.

    Args:
        model: changed in place.

    Returns:
        The number of modules replaced.
    """
    replaced = 0
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in _SPELLED_OUT:
                setattr(module, name, GELUTanh())
                replaced += 1
    return replaced
