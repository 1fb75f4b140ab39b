"""A table's cells: means, bootstrap intervals and comparisons of systems on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.profiles import StatisticsSettings
from tasks.leaderboard_v2.scoring import (
    AVERAGED_BENCHMARKS,
    COLUMN_BENCHMARK,
    columns_from_scores,
    resample_weights,
)
from tasks.metrics.significance import (
    FloatArray,
    average_drawn_seeds,
    bootstrap_mean,
    compare,
    holm,
    percentile_interval,
    seed_draws,
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


def leaderboard_cells(
    results: Mapping[str, Sequence[Mapping[str, Any]]], settings: StatisticsSettings
) -> Cells:
    """Compute the leaderboard columns of every method.

    Args:
        results: method → the leaderboard.json of each of its seeds.
        settings: replicates and seed.

    Returns:
        The columns that have rows, and "avg" over them.

    Raises:
        ValueError: if two results were not measured on the same rows.
    """
    first = next(iter(results.values()))[0]["tasks"]
    for boards in results.values():
        for board in boards:
            if _row_ids(board["tasks"]) != _row_ids(first):
                raise ValueError("leaderboard results of different rows cannot be compared")
    weights = {
        leaf: counts.astype(np.float64)
        for leaf, counts in resample_weights(first, settings.replicates, settings.seed).items()
    }
    cells: Cells = {}
    for method, boards in results.items():
        draws = seed_draws(len(boards), settings.replicates, settings.seed)
        exact = [columns_from_scores(board["tasks"]) for board in boards]
        drawn = [columns_from_scores(board["tasks"], weights) for board in boards]
        free = [_unfloored(board["tasks"], weights) for board in boards]
        cells[method] = {}
        for column in exact[0]:
            above = None
            if column in free[0]:
                per_seed = np.stack([one[column] for one in free], axis=1)
                unfloored = average_drawn_seeds(per_seed, draws)
                above = percentile_interval(unfloored)[0] > 0.0
            cells[method][column] = Statistic(
                mean=float(np.mean([one[column][0] for one in exact])),
                replicates=average_drawn_seeds(
                    np.stack([one[column] for one in drawn], axis=1), draws
                ),
                n=int(boards[0]["columns"][column]["n"]),
                seeds=len(boards),
                above_chance=above,
            )
    return cells


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


def _unfloored(
    tasks: Mapping[str, Mapping[str, Any]], weights: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Columns as (score − chance) / (1 − chance), not floored at 0."""
    # Whether a column is above chance cannot be seen from a score that cannot be below it.
    parts: dict[str, list[tuple[FloatArray, FloatArray, float]]] = {}
    for leaf, task in tasks.items():
        own = weights[leaf]
        hits = own @ np.asarray(task["scores"], dtype=np.float64)
        benchmark, chance = str(task["benchmark"]), float(task["chance"])
        parts.setdefault(benchmark, []).append((hits, own.sum(axis=1), chance))
    columns: dict[str, FloatArray] = {}
    for column, benchmark in COLUMN_BENCHMARK.items():
        if benchmark not in parts:
            continue
        if column == "ifeval_inst":
            (leaf,) = [name for name, task in tasks.items() if task["benchmark"] == "ifeval"]
            correct = np.asarray(tasks[leaf]["instructions"]["correct"], dtype=np.float64)
            columns[column] = weights[leaf] @ correct
        elif benchmark in AVERAGED_BENCHMARKS:
            rescaled = [(hits / n - c) / (1.0 - c) for hits, n, c in parts[benchmark]]
            columns[column] = np.mean(rescaled, axis=0)
        else:
            raw = sum(p[0] for p in parts[benchmark]) / sum(p[1] for p in parts[benchmark])
            chance = parts[benchmark][0][2]
            columns[column] = np.asarray((raw - chance) / (1.0 - chance), dtype=np.float64)
    return columns


def _row_ids(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    return {leaf: list(task["row_ids"]) for leaf, task in tasks.items()}
