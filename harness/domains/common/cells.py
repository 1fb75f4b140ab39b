"""A table's cells: means, bootstrap intervals and comparisons of systems on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from tasks.metrics.significance import (
    FloatArray,
    bootstrap_mean,
    compare,
    holm,
    percentile_interval,
)

_DIGITS = 6


@dataclass(frozen=True)
class Statistic:
    """One cell: its value, its bootstrap replicates and what it was computed from."""

    mean: float
    replicates: FloatArray
    n: int
    seeds: int
    above_chance: bool | None = None
    """Whether the interval of the score before flooring at chance lies above chance."""

    def as_json(self) -> dict[str, Any]:
        """Return the cell as the table's JSON holds it."""
        low, high = percentile_interval(self.replicates, estimate=self.mean)
        # The shift may leave the range that every score of a table has.
        low, high = max(low, 0.0), min(high, 100.0)
        cell: dict[str, Any] = {
            "mean": round(self.mean, _DIGITS),
            "ci95": [round(low, _DIGITS), round(high, _DIGITS)],
            "n": self.n,
            "seeds": self.seeds,
        }
        if self.above_chance is not None:
            cell["above_chance"] = self.above_chance
        return cell


Cells = dict[str, dict[str, Statistic]]
"""Method → column → statistic; columns that were not measured are absent."""


def mean_cells(
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    column: str,
    settings: StatisticsSettings,
) -> Cells:
    """Compute a column that is 100 times the mean of one score per row.

    Args:
        scores: method → for each seed row id → score in [0, 1].
        column: its id.
        settings: replicates and seed.

    Raises:
        ValueError: if two systems were not measured on the same rows.
    """
    cells: Cells = {}
    rows: list[str] | None = None
    for method, per_seed in scores.items():
        for one in per_seed:
            rows = list(one) if rows is None else rows
            if list(one) != rows:
                raise ValueError(f"{column}: systems were measured on different rows")
        values = 100.0 * np.array([list(one.values()) for one in per_seed])
        cells[method] = {
            column: Statistic(
                mean=float(values.mean()),
                replicates=bootstrap_mean(values, settings.replicates, settings.seed),
                n=values.shape[1],
                seeds=values.shape[0],
            )
        }
    return cells


def compare_with(
    cells: Cells, baseline: str, columns: Sequence[str], settings: StatisticsSettings
) -> list[dict[str, Any]]:
    """Compare every method with a baseline, Holm's adjustment within each column.

    Args:
        cells: statistics made with the same draws.
        baseline: the method that the others are compared with; no comparisons without it.
        columns: which columns.
        settings: alpha, the threshold for the adjusted p-value.

    Returns:
        One entry per column and method.
    """
    entries: list[dict[str, Any]] = []
    for column in columns if baseline in cells else ():
        base = cells[baseline].get(column)
        if base is None:
            continue
        found = {
            method: compare(
                own[column].replicates,
                base.replicates,
                own[column].mean - base.mean,
            )
            for method, own in cells.items()
            if method != baseline and column in own
        }
        adjusted = holm({method: result.p for method, result in found.items()})
        for method, result in found.items():
            entries.append(
                {
                    "column": column,
                    "method": method,
                    "baseline": baseline,
                    "difference": round(result.difference, _DIGITS),
                    "ci95": [round(result.low, _DIGITS), round(result.high, _DIGITS)],
                    "p": round(result.p, _DIGITS),
                    "p_holm": round(adjusted[method], _DIGITS),
                    "significant": bool(adjusted[method] < settings.alpha),
                }
            )
    return entries
