"""Verdicts of comparisons in both orders: which response is better, and what that is worth.

A verdict that changes with the order of the responses is a tie; one that is missing in either order
leaves the comparison out.
"""

from __future__ import annotations

from typing import Literal

Preference = Literal["first", "second", "tie", "failed"]
"""Which of two responses is better; "failed" if the judge gave no usable answer."""

PREFERENCES: tuple[Preference, ...] = ("first", "second", "tie", "failed")
SCORES: dict[Preference, float] = {
    "first": 1.0,
    "tie": 0.5,
    "second": 0.0,
    "failed": float("nan"),
}
"""Points of the first response; NaN where there is no verdict."""


def mirrored(preference: Preference) -> Preference:
    """Return the same verdict for the two responses in the other order."""
    if preference == "first":
        return "second"
    return "first" if preference == "second" else preference


def combine(forward: Preference, backward: Preference) -> Preference:
    """Combine the verdicts of both orders.

    Args:
        forward: with the first response shown first.
        backward: with the second response shown first, in terms of what was shown.

    Returns:
        The response that both prefer, "tie" if they differ, "failed" if one is missing.
    """
    other = mirrored(backward)
    if "failed" in (forward, other):
        return "failed"
    return forward if forward == other else "tie"


def shown_first(forward: Preference, backward: Preference) -> float:
    """Return the points of the response that was shown first, mean of both orders.

    A judge who looks at content alone gives ½ in every comparison. NaN if one verdict is missing.
    """
    return (SCORES[forward] + SCORES[backward]) / 2.0
