"""From artefacts to a table's numbers: means, intervals, comparisons, what is missing and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.experiments.spec import TableSpec
from harness.pipeline import Graph, System
from harness.profiles import Profile, StatisticsSettings
from harness.store import Store
from sparsepo.errors import UserError
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

PAPER = Path(__file__).parents[1] / "results" / "paper"
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


def table_json(
    spec: TableSpec,
    profile: Profile,
    graph: Graph,
    store: Store,
    labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Put a table together from the artefacts of its graph.

    Args:
        spec: what the table is.
        profile: all values.
        graph: its stages, all of them in the store.
        store: where they are.
        labels: method → how the table calls it, in the order of the rows.
        provenance: how the run was made.

    Returns:
        What table1.json holds; equal artefacts give equal values.
    """
    settings = profile.statistics
    boards = {
        method: [_read(store, system.leaderboard, "leaderboard.json") for system in systems]
        for method, systems in graph.systems.items()
    }
    cells = leaderboard_cells(boards, settings)
    gained = _merge(
        mean_cells(
            {m: [_accuracies(store, s) for s in systems] for m, systems in graph.systems.items()},
            "preference_accuracy",
            settings,
        ),
        mean_cells(
            {
                m: [_wins(store, s) for s in systems]
                for m, systems in graph.systems.items()
                if systems[0].judged is not None
            },
            "win_rate",
            settings,
        ),
    )
    missing = dict(graph.notes)
    first_board = next(iter(boards.values()))[0]
    for entry in first_board["missing"]:
        missing.setdefault(entry["benchmark"], entry["reason"])
    paper = paper_numbers(spec.id)
    ids = [column.id for column in spec.columns]
    gained_ids = [column.id for column in spec.supplement]
    reasons = {
        column: missing[COLUMN_BENCHMARK[column]]
        for column in ids
        if column in COLUMN_BENCHMARK and COLUMN_BENCHMARK[column] in missing
    }
    reasons |= {column: missing[column] for column in gained_ids if column in missing}
    present = [c for c in ids if c != spec.average and c not in reasons]
    return {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        "columns": ids,
        "column_labels": {c.id: c.label for c in (*spec.columns, *spec.supplement)},
        "rows": [
            {
                "method": method,
                "label": label,
                "values": _values(cells[method], ids),
                "paper": paper.get(method),
            }
            for method, label in labels.items()
        ],
        "average_of": present,
        "missing": reasons,
        "at_chance": _at_chance(cells, labels, present),
        "baseline": spec.baseline,
        "significance": compare_with(cells, spec.baseline, ids, settings),
        "supplement": {
            "columns": gained_ids,
            "rows": [
                {
                    "method": method,
                    "label": label,
                    "values": _values(gained.get(method, {}), gained_ids),
                }
                for method, label in labels.items()
            ],
            "significance": compare_with(gained, spec.baseline, gained_ids, settings),
        },
        "provenance": {
            **provenance,
            "chat_template": chat_template(store, graph),
            "evaluation": evaluation_facts(boards),
            "data": _read(store, graph.pairs, "report.json"),
            "tokenization": {
                f"{method} seed {system.seed}": _read(store, system.model, "training.json")[
                    "tokenization"
                ]
                for method, systems in graph.systems.items()
                for system in systems[:1]
            },
        },
    }


def chat_template(store: Store, graph: Graph) -> str:
    """Name the chat template that was saved with the first model, by the hash of its text."""
    first = next(iter(graph.systems.values()))[0]
    folder = store.folder(first.model.address) / "model"
    file = folder / "chat_template.jinja"
    if file.is_file():
        template = file.read_text(encoding="utf-8")
    else:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = str(config.get("chat_template"))
    return f"sha256 {hashlib.sha256(template.encode()).hexdigest()[:12]}"


def evaluation_facts(boards: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Say how the leaderboard was run, and how many prompts were cut, over all systems."""
    first = next(iter(boards.values()))[0]
    truncated = {board["truncated_prompts"] for runs in boards.values() for board in runs}
    return {
        "max_length": first["max_length"],
        "truncated_prompts_per_model": sorted(truncated),
        "rows": {leaf: task["n"] for leaf, task in first["tasks"].items()},
        "skipped_rows": first["skipped"],
        "settings": first["settings"],
        "sentence_splitter": first["sentence_splitter"],
        "versions": first["versions"],
    }


def paper_numbers(table: str) -> dict[str, dict[str, float]]:
    """Return the paper's published numbers of a table, method → column → value.

    Raises:
        UserError: if the data file is missing from the installation.
    """
    path = PAPER / f"{table}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"the paper's numbers {path} are missing: run from a clone of the repository"
        ) from None
    return {row["method"]: row["values"] for row in data["rows"]}


def _values(
    cells: Mapping[str, Statistic], columns: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    return {c: cells[c].as_json() if c in cells else None for c in columns}


def _at_chance(
    cells: Cells, labels: Mapping[str, str], columns: Sequence[str]
) -> dict[str, list[str]]:
    """Column → the methods whose interval does not lie above chance."""
    found: dict[str, list[str]] = {}
    for column in columns:
        methods = [m for m in labels if cells[m][column].above_chance is False]
        if methods:
            found[column] = methods
    return found


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


def _merge(*parts: Cells) -> Cells:
    merged: Cells = {}
    for part in parts:
        for method, columns in part.items():
            merged.setdefault(method, {}).update(columns)
    return merged


def _accuracies(store: Store, system: System) -> dict[str, float]:
    scores = _read(store, system.model, "scores.json")
    return {s["pair_id"]: float(s["chosen_reward"] > s["rejected_reward"]) for s in scores}


def _wins(store: Store, system: System) -> dict[str, float]:
    assert system.judged is not None
    judged = _read(store, system.judged, "judged.json")
    return dict(zip(judged["pair_ids"], judged["scores"], strict=True))


def _read(store: Store, stage: Any, name: str) -> Any:
    return json.loads((store.folder(stage.address) / name).read_text(encoding="utf-8"))


__all__ = [
    "Cells",
    "Statistic",
    "compare_with",
    "leaderboard_cells",
    "mean_cells",
    "paper_numbers",
    "table_json",
]
