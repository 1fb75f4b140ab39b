"""The sentences under the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.render.columns import BETTER, DIFFERENT, WORSE


def notes(board: Mapping[str, Any], cost_baseline: str) -> list[str]:
    """Return the sentences under the leaderboard.

    Args:
        board: its JSON, but for the notes.
        cost_baseline: id of the entry whose training time is 1.
    """
    return list(_notes(board, cost_baseline)) if board["entries"] else []


def _notes(board: Mapping[str, Any], cost_baseline: str) -> Iterator[str]:
    entries = board["entries"]
    tasks = [task["id"] for task in board["tasks"]]
    if any(entry["mean_rank"] for entry in entries):
        over = "tasks and chains" if len(tasks) > 1 else "chains; another task is not in it"
        yield (
            "Mean rank, 1 = best: in each chain, over the metrics of an experiment, the "
            "experiments of a task, and the tasks, which count equally. 95 % interval over "
            f"{over} (docs/project_leaderboard.md)."
        )
    yield from _fewer_tasks(entries, tasks)
    yield from _unranked(board["metrics"])
    yield from _comparisons(board)
    yield from _cost(entries, cost_baseline)
    yield from _origins(entries)
    yield from _outdated(board["tasks"])
    if board["profile"] == "tiny":
        yield (
            "Profile tiny: models of up to half a million parameters on synthetic tasks; the order "
            "of methods need not be that of larger models."
        )


def _fewer_tasks(entries: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> Iterator[str]:
    fewer = [
        f"{entry['label']} ({len(entry['ranks'])} of {len(tasks)})"
        for entry in entries
        if len(entry["ranks"]) < len(tasks)
    ]
    if fewer:
        yield (
            "Ranked in fewer tasks, and therefore after the others: "
            f"{', '.join(fewer)}. Where a task has fewer entries, its ranks are stretched to the "
            "same range."
        )


def _unranked(metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    free = sorted({metric["experiment"] for metric in metrics if not metric["ranked"]})
    if free:
        yield (
            "Averages of other metrics, and metrics without a better direction, do not count for "
            f"ranks ({', '.join(free)}); neither does a metric that a method lacks."
        )


def _comparisons(board: Mapping[str, Any]) -> Iterator[str]:
    against = board["against"]
    if against is None:
        return
    label = next(entry["label"] for entry in board["entries"] if entry["id"] == against)
    made = [one for entry in board["entries"] for one in entry["against"].values()]
    tested = [one for one in made if one["p"] is not None]
    if not made:
        yield f"No entry has a metric in common with {label}."
    elif not tested:
        yield f"One chain: differences from {label} have no p-value, and nothing is marked."
    else:
        found = sum(one["significant"] for one in tested)
        yield (
            f"{BETTER}, {WORSE}, {DIFFERENT}: better, worse or different from {label} (p < 0.05, "
            "paired by chain, moderated t, Holm over the entries of a metric): "
            f"{found} of {len(tested)} comparisons."
        )


def _cost(entries: Sequence[Mapping[str, Any]], baseline: str) -> Iterator[str]:
    costs = [cost for entry in entries for cost in entry["cost"].values()]
    if not costs:
        yield "Cost is not known (–): these results were made before training recorded it."
        return
    machines = sorted({cost["hardware"] for cost in costs})
    labels = {entry["id"]: entry["label"] for entry in entries}
    yield (
        "Cost of one training run, on "
        f"{'; '.join(machines)}: seconds of its steps and of the reference cache it reads, peak "
        "memory, tokens of prompts and responses per second, trained parameters. Time ×: relative "
        f"to {labels.get(baseline, baseline)}, geometric mean over experiments."
    )


def _outdated(tasks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    old = [one["id"] for task in tasks for one in task["experiments"] if one["outdated"]]
    if old:
        yield (
            "Made by another version of the code than this one, so that a new run may give other "
            f"values: {', '.join(old)}."
        )


def _origins(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    added = [entry["label"] for entry in entries if entry["origin"] == "added"]
    if added:
        yield f"Made elsewhere, with the same code of every stage: {', '.join(added)}."
    commits = sorted({run["commit"] or "unknown" for entry in entries for run in entry["runs"]})
    changed = any(run["changed"] for entry in entries for run in entry["runs"])
    listed = ", ".join(commit[:7] for commit in commits)
    yield (
        f"Commit{'s' if len(commits) > 1 else ''} {listed}"
        f"{', with uncommitted changes' if changed else ''}; each row's command and configuration "
        "hash are in the JSON and the CSV."
    )
