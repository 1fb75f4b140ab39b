"""A table's cells: means, bootstrap intervals and comparisons of systems on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.spec import UNBOUNDED, Bounds
from tasks.metrics.significance import (
    FloatArray,
    bootstrap_mean,
    compare,
    holm,
    percentile_interval,
)

DIGITS = 6
"""Decimal places of a result's JSON."""


def interval(mean: float, replicates: FloatArray, bounds: Bounds = UNBOUNDED) -> dict[str, Any]:
    """Return a value and its 95 % interval, as every result's JSON holds them.

    Args:
        mean: the value.
        replicates: its bootstrap replicates.
        bounds: range of the value; the shift by the estimated bias may leave it.
    """
    low, high = percentile_interval(replicates, estimate=mean)
    smallest, largest = bounds
    if smallest is not None:
        low = max(low, smallest)
    if largest is not None:
        high = min(high, largest)
    return {"mean": round(mean, DIGITS), "ci95": [round(low, DIGITS), round(high, DIGITS)]}


@dataclass(frozen=True)
class Statistic:
    """One cell: its value, its bootstrap replicates and what it was computed from."""

    mean: float
    replicates: FloatArray
    n: int
    seeds: int
    above_chance: bool | None = None
    """Whether the interval of the score before flooring at chance lies above chance."""

    def as_json(self, bounds: Bounds = UNBOUNDED) -> dict[str, Any]:
        """Return the cell as the table's JSON holds it.

        Args:
            bounds: those of its column.
        """
        cell = {
            **interval(self.mean, self.replicates, bounds),
            "n": self.n,
            "seeds": self.seeds,
        }
        if self.above_chance is not None:
            cell["above_chance"] = self.above_chance
        return cell


Cells = dict[str, dict[str, Statistic]]
"""Row id → column → statistic; columns that were not measured are absent."""


def mean_cells(
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    column: str,
    settings: StatisticsSettings,
) -> Cells:
    """Compute a column that is 100 times the mean of one score per item.

    Args:
        scores: row of the table → for each seed, item (a prompt, a problem) → score in [0, 1].
        column: its id.
        settings: replicates and seed.

    Raises:
        ValueError: if two systems were not measured on the same rows.
    """
    cells: Cells = {}
    items: list[str] | None = None
    for row, per_seed in scores.items():
        for one in per_seed:
            items = list(one) if items is None else items
            if list(one) != items:
                raise ValueError(f"{column}: systems were measured on different rows")
        values = 100.0 * np.array([list(one.values()) for one in per_seed])
        cells[row] = {
            column: Statistic(
                mean=float(values.mean()),
                replicates=bootstrap_mean(values, settings.replicates, settings.seed),
                n=values.shape[1],
                seeds=values.shape[0],
            )
        }
    return cells


def compare_with(
    cells: Cells,
    baseline: str,
    columns: Sequence[str],
    settings: StatisticsSettings,
    methods: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Compare every row with a baseline, Holm's adjustment within each column.

    Args:
        cells: statistics made with the same draws.
        baseline: the row that the others are compared with; no comparisons without it.
        columns: which columns.
        settings: alpha, the threshold for the adjusted p-value.
        methods: row id → its method; a row that is absent is called like its method.

    Returns:
        One entry per column and row.
    """
    entries: list[dict[str, Any]] = []
    for column in columns if baseline in cells else ():
        base = cells[baseline].get(column)
        if base is None:
            continue
        found = {
            row: compare(
                own[column].replicates,
                base.replicates,
                own[column].mean - base.mean,
            )
            for row, own in cells.items()
            if row != baseline and column in own
        }
        adjusted = holm({row: result.p for row, result in found.items()})
        for row, result in found.items():
            entries.append(
                {
                    "column": column,
                    "row": row,
                    "method": (methods or {}).get(row, row),
                    "baseline": baseline,
                    "difference": round(result.difference, DIGITS),
                    "ci95": [round(result.low, DIGITS), round(result.high, DIGITS)],
                    "p": round(result.p, DIGITS),
                    "p_holm": round(adjusted[row], DIGITS),
                    "significant": bool(adjusted[row] < settings.alpha),
                }
            )
    return entries
