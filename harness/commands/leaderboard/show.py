"""The leaderboard in the terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.render.table import MISSING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_FIRST_COLUMNS, _FURTHER_COLUMNS = 4, 6
"""Metrics beside the cost, and in the tables that follow; what 170 characters hold."""
_COSTS = ("Train s", "Peak MiB", "Tokens/s", "Trained")
_CSV_COLUMNS = (
    "entry",
    "method",
    "label",
    "origin",
    "mean_rank",
    "mean_rank_low",
    "mean_rank_high",
    "tasks",
    "task",
    "experiment",
    "column",
    "mean",
    "ci95_low",
    "ci95_high",
    "n",
    "chains",
    "against",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
    "significant",
    "seconds",
    "peak_memory_bytes",
    "tokens_per_second",
    "trained_parameters",
    "hardware",
    "command",
    "commit",
    "configuration",
)


def show(board: Mapping[str, Any], console: Console) -> None:
    """Print metrics, cost and command of every experiment, then the ranks and the notes.

    Args:
        board: the leaderboard's JSON.
        console: where to.
    """
    for task in board["tasks"]:
        for experiment in task["experiments"]:
            for table in _experiment_tables(board, experiment):
                console.print(table)
            commit = (experiment["commit"] or "unknown")[:7]
            console.print(_text(f"{experiment['command']} (commit {commit})"))
    console.print(_rank_table(board))
    for note in board["notes"]:
        console.print(_text(note))
    for one in board["left_out"]:
        console.print(_text(f"{one['name']} is left out: {one['reason']}"))


def csv_text(board: Mapping[str, Any]) -> str:
    """Return one line per entry and metric, with the entry's rank, cost and origin."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in board["entries"]:
        for metric in board["metrics"]:
            if metric["key"] in entry["values"]:
                writer.writerow(_csv_line(board, entry, metric))
    return stream.getvalue()


def _csv_line(
    board: Mapping[str, Any], entry: Mapping[str, Any], metric: Mapping[str, Any]
) -> dict[str, Any]:
    cell = entry["values"][metric["key"]]
    compared = entry["against"].get(metric["key"], {})
    cost = entry["cost"].get(metric["experiment"], {})
    rank = entry["mean_rank"] or {}
    run = next(one for one in entry["runs"] if one["experiment"] == metric["experiment"])
    line = {
        **{name: entry[name] for name in ("method", "label", "origin")},
        "entry": entry["id"],
        "mean_rank": rank.get("mean"),
        **_ends("mean_rank", rank.get("ci95")),
        "tasks": rank.get("tasks"),
        **{name: metric[name] for name in ("task", "experiment", "column")},
        "mean": cell["mean"],
        **_ends("ci95", cell["ci95"]),
        "n": cell["n"],
        "chains": cell["seeds"],
        "against": board["against"] if compared else None,
        **{name: compared.get(name) for name in ("difference", "p_holm", "significant")},
        **_ends("difference", compared.get("ci95")),
        **{name: run[name] for name in ("command", "commit", "configuration")},
    }
    costs = ("seconds", "peak_memory_bytes", "tokens_per_second", "trained_parameters", "hardware")
    return {**line, **{name: cost.get(name) for name in costs}}


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval if interval is not None else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _experiment_tables(board: Mapping[str, Any], experiment: Mapping[str, Any]) -> Iterator[Table]:
    metrics = [one for one in board["metrics"] if one["experiment"] == experiment["id"]]
    entries = [
        entry
        for entry in board["entries"]
        if any(run["experiment"] == experiment["id"] for run in entry["runs"])
    ]
    chains = experiment["chains"]
    title = f"{experiment['title']} ({experiment['id']}, {chains} chain{'s' * (chains > 1)})"
    begin, width = 0, _FIRST_COLUMNS
    while begin < len(metrics):
        own = metrics[begin : begin + width]
        table = _table(title)
        table.add_column("Method", no_wrap=True)
        for metric in own:
            arrow = "" if metric["higher_is_better"] is not False else " ↓"
            table.add_column(_text(metric["label"] + arrow), justify="right", overflow="fold")
        for heading in _COSTS if begin == 0 else ():
            table.add_column(heading, justify="right")
        for entry in entries:
            cost = _cost_cells(entry["cost"].get(experiment["id"])) if begin == 0 else []
            table.add_row(
                _text(entry["label"]), *(_value(entry, metric["key"]) for metric in own), *cost
            )
        yield table
        begin, width, title = begin + width, _FURTHER_COLUMNS, f"{experiment['id']}, continued"


def _rank_table(board: Mapping[str, Any]) -> Table:
    against = f", against {board['against']}" if board["against"] else ""
    table = _table(f"Leaderboard ({board['profile']} profile{against})")
    table.add_column("Method", no_wrap=True)
    table.add_column("Mean rank", justify="right")
    table.add_column("Tasks", justify="right")
    for task in board["tasks"]:
        table.add_column(_text(task["id"]), justify="right")
    table.add_column("Time ×", justify="right")
    table.add_column("Configuration", no_wrap=True)
    for entry in board["entries"]:
        rank, time = entry["mean_rank"], entry["relative_seconds"]
        table.add_row(
            _text(entry["label"]),
            _rank(rank),
            f"{rank['tasks'] if rank else 0}/{len(board['tasks'])}",
            *(_rank(entry["ranks"].get(task["id"])) for task in board["tasks"]),
            MISSING if time is None else f"{time:.2f}",
            ", ".join(dict.fromkeys(run["configuration"] for run in entry["runs"][:1]))
            + (f" +{len(entry['runs']) - 1}" if len(entry["runs"]) > 1 else ""),
        )
    return table


def _rank(rank: Mapping[str, Any] | None) -> str:
    if rank is None:
        return MISSING
    if rank["ci95"] is None:
        return f"{rank['mean']:.1f}"
    low, high = rank["ci95"]
    return f"{rank['mean']:.1f} [{low:.1f}, {high:.1f}]"


def _value(entry: Mapping[str, Any], key: str) -> str:
    cell = entry["values"].get(key)
    if cell is None:
        return MISSING
    low, high = cell["ci95"]
    mark = entry["against"].get(key, {}).get("mark", "")
    return f"{mark}{cell['mean']:.1f} [{low:.1f}, {high:.1f}]"


def _cost_cells(cost: Mapping[str, Any] | None) -> list[str]:
    if cost is None:
        return [MISSING] * len(_COSTS)
    speed = cost["tokens_per_second"]
    return [
        f"{cost['seconds']:.1f}",
        f"{cost['peak_memory_bytes'] / 2**20:,.0f}",
        MISSING if speed is None else f"{speed:,.0f}",
        _count(cost["trained_parameters"]),
    ]


def _count(number: float) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def _table(title: str) -> Table:
    from rich.table import Table

    return Table(title=_text(title), title_justify="left")


def _text(text: str) -> Text:
    """Return text of a result, which may come from elsewhere, without markup or control codes."""
    from rich.text import Text

    return Text("".join(one for one in text if one.isprintable()))
