"""Moving averages of batch statistics, for methods with a running state."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def moved_average(
    before: Float[Tensor, ""], value: Float[Tensor, ""], momentum: float
) -> Float[Tensor, ""]:
    """Return momentum · before + (1 − momentum) · value."""
    return momentum * before.to(value) + (1 - momentum) * value


def spread(values: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the unbiased standard deviation; 0 of a single value."""
    return values.std() if len(values) > 1 else torch.zeros_like(values[0])
