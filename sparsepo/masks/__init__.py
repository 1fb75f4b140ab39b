"""Token masks: functions of the frozen reference model's states, used only in training."""

from __future__ import annotations

from sparsepo.masks.activation import (
    FeatureMean,
    activation_to_mask,
    combine_activations,
    feature_mean,
)
from sparsepo.masks.learned import LearnedMask
from sparsepo.masks.random import RandomMask
from sparsepo.masks.scaled import relative_step, scale_mask

__all__ = [
    "FeatureMean",
    "LearnedMask",
    "RandomMask",
    "activation_to_mask",
    "combine_activations",
    "feature_mean",
    "relative_step",
    "scale_mask",
]
