"""The leaderboard's columns of Table 1, from leaderboard.json of every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Cells, Statistic
from tasks.leaderboard_v2.scoring import (
    AVERAGED_BENCHMARKS,
    COLUMN_BENCHMARK,
    columns_from_scores,
    resample_weights,
)
from tasks.metrics.significance import (
    FloatArray,
    average_drawn_seeds,
    percentile_interval,
    seed_draws,
)


def leaderboard_cells(
    results: Mapping[str, Sequence[Mapping[str, Any]]], settings: StatisticsSettings
) -> Cells:
    """Compute the leaderboard columns of every row of the table.

    Args:
        results: row id → the leaderboard.json of each of its seeds.
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
    for row, boards in results.items():
        draws = seed_draws(len(boards), settings.replicates, settings.seed)
        exact = [columns_from_scores(board["tasks"]) for board in boards]
        drawn = [columns_from_scores(board["tasks"], weights) for board in boards]
        free = [_unfloored(board["tasks"], weights) for board in boards]
        cells[row] = {}
        for column in exact[0]:
            above = None
            if column in free[0]:
                per_seed = np.stack([one[column] for one in free], axis=1)
                unfloored = average_drawn_seeds(per_seed, draws)
                above = percentile_interval(unfloored)[0] > 0.0
            cells[row][column] = Statistic(
                mean=float(np.mean([one[column][0] for one in exact])),
                replicates=average_drawn_seeds(
                    np.stack([one[column] for one in drawn], axis=1), draws
                ),
                n=int(boards[0]["columns"][column]["n"]),
                seeds=len(boards),
                above_chance=above,
            )
    return cells


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
