"""Which rows differ significantly from a baseline, said once for each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.render.columns import BETTER, DIFFERENT, WORSE, mark, row_id


@dataclass(frozen=True)
class Series:
    """Rows, or columns, that differ only in the value of one setting."""

    setting: str
    """What it is called: "β", "temperature"."""
    members: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Id of a row or column → (what it is without the setting, the value)."""


NO_SERIES = Series("")


def listed_marks(
    table: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], series: Series = NO_SERIES
) -> str:
    """Return the marks of comparisons, such as "DPO: ▲ BBH, MATH; SimPO, DPOP: ▼ BBH at every β".

    Rows with the same marks are named together, and so are a row's columns; a setting is listed
    value by value only where not all values have the mark.

    Args:
        table: a table's JSON, with the labels of its rows and columns.
        entries: comparisons of one family; at least one of them is significant.
        series: the rows or columns that are members of a series.
    """
    rows = {row_id(row): row["label"] for row in table["rows"]}
    columns = table["column_labels"]
    values = _unique(
        series.members[key][1]
        for entry in entries
        for key in (row_id(entry), entry["column"])
        if key in series.members
    )
    # Row → column → value of the setting, "" without → mark.
    signs: dict[str, dict[str, dict[str, str]]] = {}
    for entry in entries:
        row, of_row = series.members.get(row_id(entry), (rows[row_id(entry)], ""))
        column, of_column = series.members.get(entry["column"], (columns[entry["column"]], ""))
        marked = signs.setdefault(row, {}).setdefault(column, {})
        marked[of_row or of_column] = mark(table, entry)
    alike: dict[str, list[str]] = {}
    for row, own in signs.items():
        alike.setdefault(_of_row(own, series.setting, values), []).append(row)
    parts = [
        f"{'every other row' if len(found) == len(signs) > 2 else ', '.join(found)}: {text}"
        for text, found in alike.items()
        if text
    ]
    return "; ".join(parts)


def counted_marks(table: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Return how often each mark occurs, such as "12 ▲, 3 ▼ of 40 comparisons"."""
    signs = [mark(table, entry) for entry in entries]
    found = [f"{signs.count(sign)} {sign}" for sign in (BETTER, WORSE, DIFFERENT) if sign in signs]
    return f"{', '.join(found)} of {len(entries)} comparisons"


def _of_row(own: Mapping[str, Mapping[str, str]], setting: str, values: Sequence[str]) -> str:
    """Return one row's marks: columns with the same mark at the same values together."""
    clauses: dict[tuple[str, str], list[str]] = {}
    for column, marked in own.items():
        for sign in _unique(filter(None, marked.values())):
            at = [value for value, found in marked.items() if found == sign]
            clauses.setdefault((sign, _where(at, setting, values)), []).append(column)
    return ", ".join(
        f"{sign} {', '.join(columns)}{where}" for (sign, where), columns in clauses.items()
    )


def _where(at: Sequence[str], setting: str, values: Sequence[str]) -> str:
    if at == [""]:
        return ""
    if len(at) == len(values) > 1:
        return f" at every {setting}"
    return f" at {setting} {', '.join(at)}"


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
