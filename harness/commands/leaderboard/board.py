"""The leaderboard as JSON: every method with results, over all tasks."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.commands.leaderboard.against import compare_column, compared_columns, result_columns
from harness.commands.leaderboard.checks import outdated
from harness.commands.leaderboard.costs import relative_seconds, summary
from harness.commands.leaderboard.notes import notes
from harness.commands.leaderboard.ranking import Metric, Ranks, rank_entries
from harness.commands.leaderboard.sources import RUN, Source, Sources, find_sources
from harness.commands.made_by import selector
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.files import canonical_json
from harness.render.columns import higher_is_better, parts_of, row_id
from sparsepo.errors import UserError, did_you_mean
from tasks.metrics.mean_rank import RankEstimate

_COST_BASELINE = "dpo"
_DIGITS = 6


def leaderboard_json(results: Path, profile: str, against: str | None = None) -> dict[str, Any]:
    """Return the leaderboard of a profile.

    Args:
        results: the folder that `run --out` names.
        profile: the profile.
        against: id of the entry that the others are compared with; None for no comparisons.

    Returns:
        `tasks`, `metrics`, `entries`, `left_out` and `notes`, described in
        docs/project_leaderboard.md; without usable results, all but `left_out` are empty.

    Raises:
        UserError: `against` is not on the leaderboard.
    """
    sources = find_sources(results, profile)
    metrics = _metrics(sources)
    names = list(dict.fromkeys(row for source in sources.used for row in source.rows))
    if against is not None and names and against not in names:
        raise UserError(
            f"--against {against} is not on the leaderboard.{did_you_mean(against, names)} "
            f"Choose from: {', '.join(names)}."
        )
    values = _values(sources)
    ranks = rank_entries(metrics, values, _own_rows(sources))
    compared = _compared(sources, metrics, values, against)
    costs = {name: _costs(sources, name) for name in names}
    base = against if against is not None and costs.get(against) else _COST_BASELINE
    board = {
        "profile": profile,
        "against": against,
        "tasks": _tasks(sources),
        "metrics": [metric.as_json() for metric in metrics],
        "entries": _sorted(
            [
                {
                    **_labels(sources, name),
                    **_ranks_json(ranks, name),
                    "values": {key: own[name] for key, own in values.items() if name in own},
                    "against": {key: own[name] for key, own in compared.items() if name in own},
                    "cost": costs[name],
                    "relative_seconds": relative_seconds(costs[name], costs.get(base, {})),
                    "runs": [_run(source, name) for source in sources.used if name in source.rows],
                }
                for name in names
            ]
        ),
        "left_out": [{"name": one.name, "reason": one.reason} for one in sources.left_out],
    }
    return {**board, "notes": notes(board, base)}


def domain_of(experiment: str) -> str:
    """Return the domain of an experiment, which is the leaderboard's task."""
    return EXPERIMENTS[experiment].domain


def _experiments(sources: Sources) -> list[str]:
    """Experiments with results, in the catalogue's order."""
    present = {source.experiment for source in sources.used}
    return [name for name in EXPERIMENTS if name in present]


def _metrics(sources: Sources) -> list[Metric]:
    found = []
    for experiment in _experiments(sources):
        result = sources.of(experiment)[0].result
        compared = compared_columns(result)
        for column in result_columns(result):
            direction = higher_is_better(result, column)
            found.append(
                Metric(
                    domain_of(experiment),
                    experiment,
                    column,
                    result["column_labels"][column],
                    direction,
                    direction is not None
                    and column != result.get("average")
                    and column in compared,
                )
            )
    return found


def _values(sources: Sources) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Metric's key → entry → cell."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for source in sources.used:
        for row, column, cell in source.cells():
            found.setdefault(f"{source.experiment}/{column}", {})[row] = cell
    return found


def _own_rows(sources: Sources) -> dict[str, list[str]]:
    """Experiment → the rows of runs here, which decide which metrics are ranked."""
    return {
        name: [row for source in sources.of(name) if source.origin == RUN for row in source.rows]
        for name in _experiments(sources)
    }


def _compared(
    sources: Sources,
    metrics: Sequence[Metric],
    values: Mapping[str, Mapping[str, Mapping[str, Any]]],
    against: str | None,
) -> dict[str, dict[str, dict[str, Any]]]:
    if against is None:
        return {}
    return {
        metric.key: compare_column(
            [source.result for source in sources.of(metric.experiment)],
            metric.column,
            values.get(metric.key, {}),
            against,
        )
        for metric in metrics
    }


def _tasks(sources: Sources) -> list[dict[str, Any]]:
    tasks: dict[str, list[dict[str, Any]]] = {}
    for name in _experiments(sources):
        first = sources.of(name)[0]
        cells = [cell for _, _, cell in first.cells()]
        tasks.setdefault(domain_of(name), []).append(
            {
                "id": name,
                "title": first.result["title"],
                "chains": max(cell["seeds"] for cell in cells),
                "command": _command(first.result),
                "commit": first.result["provenance"].get("git_commit"),
                "hardware": first.result["provenance"].get("hardware"),
                "outdated": outdated(first.result),
            }
        )
    return [{"id": domain, "experiments": own} for domain, own in tasks.items()]


def _labels(sources: Sources, name: str) -> dict[str, Any]:
    source = next(source for source in sources.used if name in source.rows)
    row = _row(source, name)
    return {
        "id": name,
        "method": row["method"],
        "label": row["label"],
        "origin": source.origin,
    }


def _row(source: Source, name: str) -> Mapping[str, Any]:
    return next(
        row for part in parts_of(source.result) for row in part["rows"] if row_id(row) == name
    )


def _ranks_json(ranks: Ranks, name: str) -> dict[str, Any]:
    mean = ranks.mean.get(name)
    return {
        "mean_rank": None if mean is None else _estimate(mean, "tasks"),
        "ranks": {
            task: _estimate(own[name], "chains") for task, own in ranks.tasks.items() if name in own
        },
    }


def _estimate(one: RankEstimate, counted: str) -> dict[str, Any]:
    return {
        "mean": round(one.mean, _DIGITS),
        "ci95": None if one.interval is None else [round(end, _DIGITS) for end in one.interval],
        counted: one.count,
    }


def _sorted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of most tasks first, because a mean over fewer may be one over easier ones."""

    def place(entry: Mapping[str, Any]) -> tuple[float, float, str]:
        rank = entry["mean_rank"]
        if rank is None:
            return 1.0, 0.0, entry["id"]
        return -float(rank["tasks"]), float(rank["mean"]), entry["id"]

    return sorted(entries, key=place)


def _costs(sources: Sources, name: str) -> dict[str, dict[str, Any]]:
    return {
        source.experiment: summary(source.costs[name])
        for source in sources.used
        if name in source.rows and source.costs.get(name)
    }


def _run(source: Source, name: str) -> dict[str, Any]:
    made = source.result["provenance"]
    return {
        "experiment": source.experiment,
        "command": _command(source.result),
        "commit": made.get("git_commit"),
        "changed": bool(made.get("git_dirty")),
        "configuration": configuration(source.result, _row(source, name)),
        "file": source.file,
    }


def _command(result: Mapping[str, Any]) -> str:
    # Results of older versions do not say how they were made; this makes one like them.
    command: str = result["provenance"].get("command") or shlex.join(
        ["python", "-m", "harness", "run", *selector(result["id"]), "--profile", result["profile"]]
    )
    return command


def configuration(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return a hash of everything that a row was configured with.

    Args:
        result: its experiment's JSON.
        row: the row.

    Returns:
        12 hexadecimal digits of the SHA-256 of the profile's settings without those of other
        methods, the row's own settings, and the plug-in's content.
    """
    made = result["provenance"]
    settings = dict(made["settings"])
    settings["methods"] = settings.get("methods", {}).get(row["method"])
    content = {
        "experiment": result["id"],
        "settings": settings,
        "method": row["method"],
        "row": row.get("settings", {}),
        "tuned": bool(row.get("tuned")),
        "plugin": made.get("plugins", {}).get(row["method"]),
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]
