"""The activation mask (MaPO): how strongly the reference model is activated at each token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CONSTANT_TOLERANCE = 16
"""A spread below this many rounding errors of the features is treated as none [ours]."""


class FeatureMean(NamedTuple):
    """A captured tensor averaged over its features."""

    mean: Float[Tensor, "*tokens"]
    magnitude: Float[Tensor, "*tokens"]
    """Mean absolute value: the scale for rounding errors of the mean. The output of a layer norm
    with equal scales, for example, has means that are nothing but rounding error. In half precision
    the scale is increased to match the coarser rounding."""


def feature_mean(
    activation: Float[Tensor, "..."], features: int | tuple[int, ...] = -1
) -> FeatureMean:
    """Average an activation over its feature dimensions, in float32 or wider."""
    values = activation.to(torch.promote_types(activation.dtype, torch.float32))
    mean, magnitude = values.mean(features), values.abs().mean(features)
    if values.dtype != activation.dtype:
        # The features themselves are rounded. These errors are independent, and their mean shrinks
        # with the square root of their number.
        errors = torch.finfo(activation.dtype).eps / torch.finfo(values.dtype).eps
        count = values.numel() / max(mean.numel(), 1)
        magnitude = magnitude * (1 + errors / CONSTANT_TOLERANCE / count**0.5)
    return FeatureMean(mean, magnitude)


def activation_to_mask(
    activation: Float[Tensor, "B T ..."] | FeatureMean,
    response_mask: Bool[Tensor, "B T"] | Float[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Return one activation's contribution to a mask: standardised, then rescaled to [0, 1].

    a_t = mean over features;  z_t = (a_t − mean a)/std a;  m_t = (z_t − min z)/(max z − min z),
    all over the response's tokens, with the unbiased standard deviation.

    Args:
        activation: (B, T) or (B, T, *features), the captured values, or their feature means.
        response_mask: (B, T), true on response tokens.

    Returns:
        (B, T) in [0, 1], 0 outside the response. A response whose values are all equal up to
        rounding (such as a single token) gets 1 everywhere [ours].

    Source: arXiv 2410.05102.
    """
    inside = response_mask.bool()
    if isinstance(activation, Tensor):
        flat = activation.flatten(2) if activation.dim() > 2 else activation.unsqueeze(-1)
        activation = feature_mean(flat)
    values, magnitude = activation
    count = inside.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(inside, values, 0.0).sum(-1, keepdim=True) / count
    centred = torch.where(inside, values - mean, 0.0)
    std = (centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    scale = torch.where(inside, magnitude, 0.0).amax(-1, keepdim=True)
    constant = std <= CONSTANT_TOLERANCE * torch.finfo(values.dtype).eps * scale
    standardised = centred / torch.where(constant, 1.0, std)
    low = torch.where(inside, standardised, torch.inf).amin(-1, keepdim=True)
    high = torch.where(inside, standardised, -torch.inf).amax(-1, keepdim=True)
    rescaled = (standardised - low) / torch.where(constant, 1.0, high - low)
    return torch.where(inside, torch.where(constant, 1.0, rescaled), 0.0)


def combine_activations(
    captures: Mapping[str, Iterable[FeatureMean]],
    response_mask: Bool[Tensor, "B T"],
    mapping: Literal["none", "sigmoid", "rescale"] = "none",
) -> Float[Tensor, "B T"]:
    """Return the MaPO mask: the mean over families of the mean over a family's captures.

    Args:
        captures: family → feature means of each captured tensor, (B, T) each.
        response_mask: (B, T), true on response tokens.
        mapping: applied to the result: none, a sigmoid, or min-max rescaling per response.

    Returns:
        (B, T), 0 outside the response.

    Raises:
        ValueError: no activation was captured.

    Source: arXiv 2410.05102.
    """
    families = []
    for tensors in captures.values():
        shares = [activation_to_mask(tensor, response_mask) for tensor in tensors]
        if shares:
            families.append(torch.stack(shares).mean(0))
    if not families:
        raise ValueError("An activation mask needs at least one captured activation; pass one.")
    mask = torch.stack(families).mean(0)
    if mapping == "sigmoid":
        mask = torch.where(response_mask.bool(), mask.sigmoid(), 0.0)
    elif mapping == "rescale":
        mask = activation_to_mask(mask, response_mask)
    return mask
