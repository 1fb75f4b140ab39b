"""Scores and probabilities that rows of preference data may have besides the responses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sparsepo.errors import UserError

SCORES: Final = ("score_chosen", "score_rejected")
"""Columns with the scores of both responses, as in UltraFeedback's binarised form."""
WIN_PROBABILITY: Final = "win_probability"
"""Column with the probability that chosen is preferred."""
COLUMNS: Final = (*SCORES, WIN_PROBABILITY)


def scores_of(row: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    """Return a row's scores of chosen and rejected, or None if it has not both.

    Raises:
        UserError: one is no finite number.
    """
    given = [row.get(name) for name in SCORES]
    if any(value is None for value in given):
        return None
    chosen, rejected = (
        _number(value, f"{where}: '{name}'") for name, value in zip(SCORES, given, strict=True)
    )
    return chosen, rejected


def win_probability_of(row: Mapping[str, Any], where: str) -> float | None:
    """Return a row's probability that chosen is preferred, or None if it has none.

    Raises:
        UserError: it is not between 0 and 1.
    """
    given = row.get(WIN_PROBABILITY)
    if given is None:
        return None
    value = _number(given, f"{where}: '{WIN_PROBABILITY}'")
    if not 0 <= value <= 1:
        raise UserError(f"{where}: '{WIN_PROBABILITY}' is {value:g}; it must be between 0 and 1.")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where} is {value!r}; it must be a finite number.")
    return float(value)
