"""A method's rows of a table, as the section of a page on the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.render.columns import BETTER, DIFFERENT, WORSE, heading_of, mark, parts_of, row_id
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
        "| | " + " | ".join(_cell(rows[id]["label"]) for id in shown) + " |",
        "|---" + "|---:" * len(shown) + "|",
    ]
    for part in parts_of(table):
        values = {row_id(row): row["values"] for row in part["rows"]}
        compared = marked(table, part)
        for column in part["columns"]:
            cells = (
                _number(table, values.get(id, {}).get(column), compared.get((id, column)))
                for id in shown
            )
            lines.append(f"| {_cell(heading_of(table, column))} | {' | '.join(cells)} |")
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
    values = (v for row in table["rows"] for v in row["values"].values() if v is not None)
    chains = max((value["seeds"] for value in values), default=0)
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


def _number(
    table: Mapping[str, Any],
    value: Mapping[str, Any] | None,
    comparison: Mapping[str, Any] | None,
) -> str:
    if value is None:
        return MISSING
    low, high = value["ci95"]
    sign = "" if comparison is None else mark(table, comparison)
    return f"{value['mean']:.2f}{sign} [{low:.1f}, {high:.1f}]"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
