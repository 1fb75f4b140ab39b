"""The common part of every table's JSON: rows, columns, comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Cells, compare_rows
from harness.domains.common.spec import ColumnSpec, RowSpec
from harness.render.columns import TUNED


def column_facts(columns: Sequence[ColumnSpec]) -> dict[str, Any]:
    """Return the facts about columns that renderers need, each by column id.

    Args:
        columns: the columns of the table and its supplement.
    """
    return {
        "column_labels": {column.id: column.label for column in columns},
        "higher_is_better": {column.id: column.higher_is_better for column in columns},
        "bounds": {column.id: list(column.bounds) for column in columns},
    }


def block_json(
    rows: Sequence[RowSpec],
    columns: Sequence[ColumnSpec],
    cells: Cells,
    settings: StatisticsSettings,
    *,
    baselines: Sequence[str],
    paper: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return one block of numbers: `columns`, `rows`, `significance` and `detectable`.

    Args:
        rows: in the order shown.
        columns: in the order shown.
        cells: row id → column id → statistic; a cell that is absent is null.
        settings: alpha of the comparisons.
        baselines: the rows that all others are compared with, one after the other; tuned rows
            with the tuned one of each, where there is one. `detectable` is about the first.
        paper: row id → column id → the paper's own value.
    """
    ids = [column.id for column in columns]
    names = {row.id for row in rows}
    methods = {row.id: row.method for row in rows}
    compared = []
    for tuned in (False, True):
        own = {row.id for row in rows if row.tuned == tuned}
        if not own:
            continue
        for baseline in dict.fromkeys(_baseline(name, tuned, own) for name in baselines):
            group = {row: cells[row] for row in cells if row in own or row == baseline}
            compared.append(compare_rows(group, baseline, ids, settings, methods))
    return {
        "columns": ids,
        "rows": [
            {
                "id": row.id,
                "method": row.method,
                "label": row.label,
                "settings": dict(row.settings),
                # Its marks refer to a baseline of their own.
                **(
                    {"tuned": True, "baseline": _baseline(baselines[0], True, names)}
                    if row.tuned
                    else {}
                ),
                "values": {
                    column.id: cells[row.id][column.id].as_json(column.bounds)
                    if column.id in cells.get(row.id, {})
                    else None
                    for column in columns
                },
                "paper": (paper or {}).get(row.id),
            }
            for row in rows
        ],
        "significance": [entry for one in compared for entry in one.entries],
        "detectable": compared[0].detectable if compared else {},
    }


def _baseline(name: str, tuned: bool, rows: Collection[str]) -> str:
    """Return the row that tuned rows, or those as published, are compared with."""
    return f"{name}{TUNED}" if tuned and f"{name}{TUNED}" in rows else name
