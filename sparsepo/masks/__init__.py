"""Token masks: functions of the frozen reference model's states, used in training only."""

from __future__ import annotations

from sparsepo.masks.activation import activation_to_mask, combine_activations
from sparsepo.masks.learned import LearnedMask
from sparsepo.masks.random import RandomMask

__all__ = ["LearnedMask", "RandomMask", "activation_to_mask", "combine_activations"]
