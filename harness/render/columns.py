"""Judges the values of a column: the best one, marks against the baseline, saturation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BETTER, WORSE, DIFFERENT = "▲", "▼", "≠"
"""Marks of a significant difference; the last one if neither direction is better."""
TUNED = "-tuned"
"""End of a tuned row's id, and of the folder of a result that has such rows."""


def row_id(row: Mapping[str, Any]) -> str:
    """Return the key of a row, or of a comparison of a row."""
    # In results written before rows had ids, each method has one row.
    key: str = row.get("id") or row.get("row") or row["method"]
    return key


def parts_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the parts of a result that have rows and columns: itself, and further ones.

    Args:
        result: a table's JSON; one supplement is under `supplement`, several are under `parts`.
    """
    supplement = result.get("supplement")
    return [result, *([supplement] if supplement else []), *result.get("parts", [])]


def most_chains(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the largest number of chains of a cell; None if no cell says it.

    Args:
        rows: of a result's JSON, with `values`.
    """
    cells = (cell for row in rows for cell in row["values"].values() if cell)
    return max((cell["seeds"] for cell in cells), default=None)


def markdown_text(text: str) -> str:
    """Return text that ends no cell of a Markdown table."""
    return text.replace("|", r"\|")


def higher_is_better(table: Mapping[str, Any], column: str) -> bool | None:
    """Return a column's direction; None if neither is better.

    Args:
        table: a table's JSON; in the JSON of older versions, without directions, higher is better.
        column: the column's id.
    """
    direction: bool | None = table.get("higher_is_better", {}).get(column, True)
    return direction


def heading_of(table: Mapping[str, Any], column: str) -> str:
    """Return a column's label, with an arrow if lower values are better."""
    label: str = table["column_labels"][column]
    return label if higher_is_better(table, column) is not False else f"{label} ↓"


def best(table: Mapping[str, Any], column: str, values: Sequence[float]) -> float | None:
    """Return the best of a column's values.

    It is None if neither direction is better, or if all values are equal.
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
    """Return whether all values of a column are the best possible one.

    Args:
        table: a table's JSON; in the JSON of older versions, without bounds, columns are
            percentages.
        column: the column's id.
        values: the values of all rows.
    """
    direction = higher_is_better(table, column)
    lowest, highest = table.get("bounds", {}).get(column, (0.0, 100.0))
    limit = highest if direction else lowest
    if direction is None or limit is None or not values:
        return False
    return bool(min(values) >= limit if direction else max(values) <= limit)
