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
_BORDER = 3
"""Characters between two columns."""
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
            for table in _experiment_tables(board, experiment, console.width):
                console.print(table)
            commit = (experiment["commit"] or "unknown")[:7]
            console.print(_text(f"{experiment['command']} (commit {commit})"))
    for table in _rank_tables(board, console.width):
        console.print(table)
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


def _experiment_tables(
    board: Mapping[str, Any], experiment: Mapping[str, Any], width: int
) -> Iterator[Table]:
    metrics = [one for one in board["metrics"] if one["experiment"] == experiment["id"]]
    entries = [
        entry
        for entry in board["entries"]
        if any(run["experiment"] == experiment["id"] for run in entry["runs"])
    ]
    chains = experiment["chains"]
    title = f"{experiment['title']} ({experiment['id']}, {chains} chain{'s' * (chains > 1)})"
    labels = [entry["label"] for entry in entries]
    continued = f"{experiment['id']}, continued"
    begin, count = 0, _FIRST_COLUMNS
    while begin < len(metrics):
        columns = [
            (
                metric["label"] + ("" if metric["higher_is_better"] is not False else " ↓"),
                [_value(entry, metric["key"]) for entry in entries],
            )
            for metric in metrics[begin : begin + count]
        ]
        if begin == 0:
            costs = [_cost_cells(entry["cost"].get(experiment["id"])) for entry in entries]
            columns += [(name, [row[place] for row in costs]) for place, name in enumerate(_COSTS)]
        yield from _tables(title, continued, labels, columns, width)
        begin, count, title = begin + count, _FURTHER_COLUMNS, continued


def _rank_tables(board: Mapping[str, Any], width: int) -> Iterator[Table]:
    against = f", against {board['against']}" if board["against"] else ""
    title = f"Leaderboard ({board['profile']} profile{against})"
    entries, tasks = board["entries"], board["tasks"]
    columns = [
        ("Mean rank", [_rank(entry["mean_rank"]) for entry in entries]),
        (
            "Tasks",
            [f"{(entry['mean_rank'] or {'tasks': 0})['tasks']}/{len(tasks)}" for entry in entries],
        ),
        *(
            (task["id"], [_rank(entry["ranks"].get(task["id"])) for entry in entries])
            for task in tasks
        ),
        ("Time ×", [_time(entry["relative_seconds"]) for entry in entries]),
        ("Configuration", [_configuration(entry["runs"]) for entry in entries]),
    ]
    labels = [entry["label"] for entry in entries]
    yield from _tables(title, f"{title}, continued", labels, columns, width)


def _tables(
    title: str,
    continued: str,
    labels: Sequence[str],
    columns: Sequence[tuple[str, Sequence[str]]],
    width: int,
) -> Iterator[Table]:
    """Yield tables with a row for each label, each with as many whole columns as fit.

    Args:
        title: of the first table.
        continued: title of the others.
        labels: of the rows, repeated in each table.
        columns: heading and values.
        width: of the terminal, in characters.
    """
    from rich.cells import cell_len

    first = max(map(cell_len, ("Method", *labels))) + _BORDER + 1
    fitting: list[tuple[str, Sequence[str]]] = []
    used = first
    for heading, values in columns:
        own = max(map(cell_len, (heading, *values))) + _BORDER
        if fitting and used + own > width:
            yield _table(title, labels, fitting)
            fitting, used, title = [], first, continued
        fitting.append((heading, values))
        used += own
    yield _table(title, labels, fitting)


def _time(relative: float | None) -> str:
    return MISSING if relative is None else f"{relative:.2f}"


def _configuration(runs: Sequence[Mapping[str, Any]]) -> str:
    more = f" +{len(runs) - 1}" if len(runs) > 1 else ""
    return f"{runs[0]['configuration']}{more}" if runs else MISSING


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


def _table(
    title: str, labels: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]]
) -> Table:
    from rich.table import Table

    table = Table(title=_text(title), title_justify="left")
    table.add_column("Method", no_wrap=True)
    for heading, _ in columns:
        table.add_column(_text(heading), justify="right", overflow="fold")
    for label, *values in zip(labels, *(values for _, values in columns), strict=True):
        table.add_row(*map(_text, (label, *values)))
    return table


def _text(text: str) -> Text:
    """Return text of a result, which may come from elsewhere, without markup or control codes."""
    from rich.text import Text

    return Text("".join(one for one in text if one.isprintable()))
