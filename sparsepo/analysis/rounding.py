"""Numbers of token maps, as short as their readers need them."""

from __future__ import annotations

from typing import Any

DIGITS = 6
"""Significant digits of a number in a document of token maps; pages display four."""


def rounded(value: Any) -> Any:
    """Return JSON data with its floats rounded to `DIGITS` significant digits; tuples become lists.

    Args:
        value: numbers, texts, dictionaries and sequences, nested in any way.
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
