"""A table's rows for the pages on methods: those of one method, and a line for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.render.columns import (
    BETTER,
    DIFFERENT,
    TUNED,
    WORSE,
    heading_of,
    mark,
    markdown_text,
    most_chains,
    parts_of,
    row_id,
)
from harness.render.notes import chosen_text
from harness.render.table import MISSING, marked


def method_result(table: Mapping[str, Any], method: str, source: str) -> str | None:
    """Return a method's numbers in Markdown, beside those of the rows that it is compared with.

    Args:
        table: a table's JSON.
        method: the method's name.
        source: where the JSON is, as a reader finds it.

    Returns:
        The text, or None if the table has no row of the method.
    """
    own = [row for row in table["rows"] if row["method"] == method]
    if not own:
        return None
    baselines = dict.fromkeys(row.get("baseline", table["baseline"]) for row in own)
    rows = {row_id(row): row for row in table["rows"]}
    shown = [*map(row_id, own), *(id for id in baselines if id in rows and rows[id] not in own)]
    lines = [
        _how(table, rows, list(baselines), source),
        "",
        "| | " + " | ".join(markdown_text(rows[id]["label"]) for id in shown) + " |",
        "|---" + "|---:" * len(shown) + "|",
    ]
    numbers = _numbers(table)
    for column in _columns(table):
        cells = [_with_interval(numbers.get((id, column))) for id in shown]
        lines.append(f"| {markdown_text(heading_of(table, column))} | {' | '.join(cells)} |")
    searches = table.get("tuning", {}).get("rows", {})
    for row in own:
        chains = searches.get(row_id(row))
        if chains:
            found = "; ".join(f"{chain}: {chosen_text(one)}" for chain, one in chains.items())
            lines += ["", f"Chosen by tuning: {found}."]
    return "\n".join(lines)


def _how(
    table: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    baselines: Sequence[str],
    source: str,
) -> str:
    provenance = table["provenance"]
    chains = most_chains(table["rows"]) or 0
    commit = str(provenance.get("git_commit") or "")[:7]
    of_commit = f" at commit {commit}" if commit else ""
    start = f"`{provenance['command']}`{of_commit} ([numbers]({source})): "
    if chains < 2:
        return f"{start}one chain, which has no test."
    labels = " or ".join(rows[id]["label"] for id in baselines if id in rows)
    return (
        f"{start}means over {chains} chains with 95 % intervals; significantly better {BETTER}, "
        f"worse {WORSE} or different {DIFFERENT} from {labels}, "
        "[adjusted for all rows](../statistics.md)."
    )


def all_methods(table: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Return a line for each row as published, and its tuned row's numbers beside it, in Markdown.

    Args:
        table: a table's JSON.
        columns: ids of those that are shown.
    """
    numbers = _numbers(table)
    labels = [markdown_text(heading_of(table, column)) for column in columns]
    lines = [
        f"| | {' | '.join([*labels, *(f'tuned: {label}' for label in labels)])} |",
        "|---" + "|---:" * 2 * len(labels) + "|",
    ]
    there = {row_id(row) for row in table["rows"]}
    for id in map(row_id, table["rows"]):
        if not id.endswith(TUNED):
            cells = [
                _short(numbers.get((one, column))) if one in there else ""
                for one in (id, f"{id}{TUNED}")
                for column in columns
            ]
            lines.append(f"| `{id}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _columns(table: Mapping[str, Any]) -> list[str]:
    return [column for part in parts_of(table) for column in part["columns"]]


def _numbers(table: Mapping[str, Any]) -> dict[tuple[str, str], tuple[Mapping[str, Any], str]]:
    """Return the value and the mark of each cell that has a value, by row and column."""
    found = {}
    for part in parts_of(table):
        compared = marked(table, part)
        for row in part["rows"]:
            for column in part["columns"]:
                key = (row_id(row), column)
                value, comparison = row["values"].get(column), compared.get(key)
                if value is not None:
                    found[key] = value, "" if comparison is None else mark(table, comparison)
    return found


def _with_interval(number: tuple[Mapping[str, Any], str] | None) -> str:
    if number is None:
        return MISSING
    value, sign = number
    low, high = value["ci95"]
    return f"{value['mean']:.2f}{sign} [{low:.1f}, {high:.1f}]"


def _short(number: tuple[Mapping[str, Any], str] | None) -> str:
    return MISSING if number is None else f"{number[0]['mean']:.1f}{number[1]}"
