"""The activation mask (MaPO): how strongly the reference model reacts at each token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CONSTANT_TOLERANCE = 16
"""A spread below this many rounding errors of the features is taken for no spread [ours]."""


class FeatureMean(NamedTuple):
    """A captured tensor, reduced over its features."""

    mean: Float[Tensor, "*tokens"]
    magnitude: Float[Tensor, "*tokens"]
    """Mean absolute value: the scale on which rounding errors of the mean are measured. A layer
    norm with equal scales, say, has means of nothing but rounding. Larger by as much as half
    precision rounds more."""


def feature_mean(
    activation: Float[Tensor, "..."], features: int | tuple[int, ...] = -1
) -> FeatureMean:
    """Reduce an activation over its feature dimensions, in float32 at least."""
    values = activation.to(torch.promote_types(activation.dtype, torch.float32))
    mean, magnitude = values.mean(features), values.abs().mean(features)
    if values.dtype != activation.dtype:
        # The features themselves are rounded; such errors are independent, and their mean shrinks
        # with the root of their number.
        errors = torch.finfo(activation.dtype).eps / torch.finfo(values.dtype).eps
        count = values.numel() / max(mean.numel(), 1)
        magnitude = magnitude * (1 + errors / CONSTANT_TOLERANCE / count**0.5)
    return FeatureMean(mean, magnitude)


def activation_to_mask(
    activation: Float[Tensor, "B T ..."] | FeatureMean,
    response_mask: Bool[Tensor, "B T"] | Float[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Return one activation's share of a mask: standardised, then rescaled to [0, 1].

    a_t = mean over features;  z_t = (a_t − mean a)/std a;  m_t = (z_t − min z)/(max z − min z),
    all over the response's tokens, with the unbiased standard deviation.

    Args:
        activation: (B, T) or (B, T, *features), the captured values, or their feature means.
        response_mask: (B, T), true on response tokens.

    Returns:
        (B, T) in [0, 1], 0 outside the response. A response whose values are all equal up to
        rounding (one token, say) gets 1 everywhere [ours].

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
        mapping: applied to the result: nothing, a sigmoid, or min-max rescaling per response.

    Returns:
        (B, T), 0 outside the response.

    Raises:
        ValueError: there is no capture.

    Source: arXiv 2410.05102.
    """
    families = []
    for tensors in captures.values():
        shares = [activation_to_mask(tensor, response_mask) for tensor in tensors]
        if shares:
            families.append(torch.stack(shares).mean(0))
    if not families:
        raise ValueError("an activation mask needs at least one captured activation")
    mask = torch.stack(families).mean(0)
    if mapping == "sigmoid":
        mask = torch.where(response_mask.bool(), mask.sigmoid(), 0.0)
    elif mapping == "rescale":
        mask = activation_to_mask(mask, response_mask)
    return mask
