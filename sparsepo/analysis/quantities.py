"""By what the tokens of a map can be coloured, and the colours; imports no model."""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = {"negative": "#e6954a", "zero": "#ffffff", "positive": "#6aa9e0", "high": "#4fb3a1"}
"""Orange to blue through white, and white to green: distinguishable with all common kinds of colour
blindness, and light enough for dark text."""

INK = "#111111"
"""Colour of the text."""


@dataclass(frozen=True)
class Quantity:
    """A quantity by which tokens are coloured."""

    field: str
    """The field of a ResponseMap."""
    label: str
    signed: bool
    """Whether the sign matters: positive and negative values have different colours."""


QUANTITIES = (
    Quantity("rewards", "token reward β·r, before the mask", signed=True),
    Quantity("masked_rewards", "token reward β·m_u·r, after the mask", signed=True),
    Quantity("weighted_kl", "token KL β·k, before the mask", signed=False),
    Quantity("masked_kl", "token KL β·m_d·k, after the mask", signed=False),
    Quantity("reward_mask", "reward mask m_u", signed=False),
    Quantity("kl_mask", "KL mask m_d", signed=False),
    Quantity("contributions", "contribution to the pair's margin", signed=True),
    Quantity("log_ratios", "log-ratio r", signed=True),
    Quantity("kl", "token KL k", signed=False),
)
"""In the order of the page's menu."""
