"""Which values of a column are good: the best one, marks against the baseline, saturation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BETTER, WORSE, DIFFERENT = "▲", "▼", "≠"
"""Marks of a significant difference; the last one where neither direction is better."""


def row_id(row: Mapping[str, Any]) -> str:
    """Return what a row, or a comparison of a row, is keyed by."""
    # Results written before rows had ids show each method once.
    key: str = row.get("id") or row.get("row") or row["method"]
    return key


def higher_is_better(table: Mapping[str, Any], column: str) -> bool | None:
    """Return a column's direction; None where neither is better.

    Args:
        table: a table's JSON; without directions, as older versions wrote it, higher is better.
        column: its id.
    """
    direction: bool | None = table.get("higher_is_better", {}).get(column, True)
    return direction


def heading_of(table: Mapping[str, Any], column: str) -> str:
    """Return a column's label, with an arrow where lower values are better."""
    label: str = table["column_labels"][column]
    return label if higher_is_better(table, column) is not False else f"{label} ↓"


def best(table: Mapping[str, Any], column: str, values: Sequence[float]) -> float | None:
    """Return the best of a column's values; None where there is none.

    There is none where neither direction is better, or where all values are equal.
    """
    direction = higher_is_better(table, column)
    if direction is None or len(set(values)) < 2:
        return None
    return max(values) if direction else min(values)


def mark(table: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """Return the mark of a comparison with the baseline; empty if it is not significant."""
    if not comparison["significant"]:
        return ""
    direction = higher_is_better(table, comparison["column"])
    if direction is None:
        return DIFFERENT
    return BETTER if (comparison["difference"] > 0) is direction else WORSE


def saturated(table: Mapping[str, Any], column: str, values: Sequence[float]) -> bool:
    """Return whether all values of a column are the best that it can have.

    Args:
        table: a table's JSON; without bounds, as older versions wrote it, columns are percentages.
        column: its id.
        values: those of all rows.
    """
    direction = higher_is_better(table, column)
    lowest, highest = table.get("bounds", {}).get(column, (0.0, 100.0))
    limit = highest if direction else lowest
    if direction is None or limit is None or not values:
        return False
    return bool(min(values) >= limit if direction else max(values) <= limit)
