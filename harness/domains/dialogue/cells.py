"""The leaderboard's columns of Table 1, from leaderboard.json of every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Cells, Statistic, are_crossed, draw_seed
from tasks.leaderboard_v2.scoring import (
    AVERAGED_BENCHMARKS,
    COLUMN_BENCHMARK,
    columns_from_scores,
    resample_weights,
)
from tasks.metrics.chains import ChainValues
from tasks.metrics.significance import FloatArray


def leaderboard_cells(
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: StatisticsSettings,
    sources: Sequence[str] | None = None,
) -> Cells:
    """Compute the leaderboard columns of every row of the table.

    Args:
        results: row id → the leaderboard.json of each of its chains.
        settings: replicates and seed.
        sources: what tells apart rows of equal names, for each chain: where they come from.

    Returns:
        The columns that have rows, and "avg" over them.

    Raises:
        ValueError: if two results of a chain were not measured on the same rows.
    """
    items = {
        row: [
            (sources[chain] if sources else "", _row_ids(board["tasks"]))
            for chain, board in enumerate(boards)
        ]
        for row, boards in results.items()
    }
    crossed = are_crossed(items, "leaderboard")
    longest = max((list(boards) for boards in results.values()), key=len)
    weights = [
        {
            leaf: counts.astype(np.float64)
            for leaf, counts in resample_weights(
                board["tasks"], settings.replicates, draw_seed(settings, chain, crossed)
            ).items()
        }
        for chain, board in enumerate(longest)
    ]
    cells: Cells = {}
    for row, boards in results.items():
        chains = list(zip([board["tasks"] for board in boards], weights, strict=False))
        exact = [columns_from_scores(tasks) for tasks, _ in chains]
        drawn = [columns_from_scores(tasks, own) for tasks, own in chains]
        ones = [{leaf: np.ones((1, own.shape[1])) for leaf, own in w.items()} for _, w in chains]
        free = [_unfloored(tasks, one) for (tasks, _), one in zip(chains, ones, strict=True)]
        free_drawn = [_unfloored(tasks, own) for tasks, own in chains]
        cells[row] = {}
        for column in exact[0]:
            n = min(int(board["columns"][column]["n"]) for board in boards)
            unfloored = None
            if column in free[0]:
                unfloored = _sample(column, free, free_drawn, n, crossed)
            sample = _sample(column, exact, drawn, n, crossed)
            cells[row][column] = Statistic(sample, unfloored)
    return cells


def _sample(
    column: str,
    exact: Sequence[Mapping[str, FloatArray]],
    drawn: Sequence[Mapping[str, FloatArray]],
    n: int,
    crossed: bool,
) -> ChainValues:
    values = np.array([float(one[column][0]) for one in exact])
    return ChainValues(values, np.stack([one[column] for one in drawn]), n, crossed)


def _unfloored(
    tasks: Mapping[str, Mapping[str, Any]], weights: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Columns as 100 · (score − chance) / (1 − chance), not floored at 0."""
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
            correct, total = (
                weights[leaf] @ np.asarray(tasks[leaf]["instructions"][name], dtype=np.float64)
                for name in ("correct", "total")
            )
            columns[column] = 100.0 * correct / total
        elif benchmark in AVERAGED_BENCHMARKS:
            rescaled = [100.0 * (hits / n - c) / (1.0 - c) for hits, n, c in parts[benchmark]]
            columns[column] = np.mean(rescaled, axis=0)
        else:
            raw = sum(p[0] for p in parts[benchmark]) / sum(p[1] for p in parts[benchmark])
            chance = parts[benchmark][0][2]
            columns[column] = np.asarray(100.0 * (raw - chance) / (1.0 - chance), dtype=np.float64)
    return columns


def _row_ids(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    return {leaf: list(task["row_ids"]) for leaf, task in tasks.items()}
