"""Renders a table's JSON as Markdown, CSV and LaTeX, and in the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.render.columns import (
    BETTER,
    DIFFERENT,
    WORSE,
    best,
    heading_of,
    mark,
    markdown_text,
    parts_of,
    row_id,
)
from harness.render.fit import shown_notes
from harness.render.latex import escape
from harness.render.notes import chosen_text, heading, paper_heading

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MISSING = "–"
_CSV_COLUMNS = (
    "table",
    "profile",
    "row",
    "method",
    "column",
    "mean",
    "ci95_low",
    "ci95_high",
    "n",
    "seeds",
    "difference",
    "p_holm",
    "significant",
    "paper",
)
_TEX_MARKS = {BETTER: r"\triangle", WORSE: r"\nabla", DIFFERENT: r"\neq"}


@dataclass(frozen=True)
class Cell:
    """A number as it is displayed."""

    value: str
    interval: str
    best: bool = False
    mark: str = ""
    """▲, ▼ or ≠: significantly better, worse or different from the baseline."""


@dataclass(frozen=True)
class Block:
    """One of the tables on a page."""

    title: str
    columns: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]
    """(label, "n × seeds", cells)."""


def blocks(table: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of a table: itself, its further parts, and the paper's numbers.

    Args:
        table: a table's JSON.

    Returns:
        One block or more: rows that are tuned are in blocks of their own; further parts, the
        tuning's choices and the paper's numbers may be absent.
    """
    first = table.get("first_title")
    shown = _blocks_of(table, table, heading(table) + (f": {first}" if first else ""))
    for part in parts_of(table)[1:]:
        if any(value for row in part["rows"] for value in row["values"].values()):
            shown += _blocks_of(table, part, part["title"])
    if table.get("tuning"):
        shown.append(_tuning_block(table))
    if any(row["paper"] for row in table["rows"]):
        shown.append(_paper_block(table))
    return shown


def marked(table: Mapping[str, Any], part: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Return the comparisons of every row with its baseline, by row and column.

    Comparisons with other rows are described in the notes.

    Args:
        table: a table's JSON.
        part: the part of it (`parts_of`) whose rows they are.
    """
    baselines = {row_id(row): row.get("baseline", table["baseline"]) for row in part["rows"]}
    return {
        (row_id(entry), entry["column"]): entry
        for entry in part["significance"]
        if entry["baseline"] == baselines.get(row_id(entry), table["baseline"])
    }


def _blocks_of(table: Mapping[str, Any], part: Mapping[str, Any], title: str) -> list[Block]:
    """Return a part's block; two if it has tuned rows, which are compared among themselves."""
    rows = part["rows"]
    tuned = [row for row in rows if row.get("tuned")]
    if not tuned:
        return [_block(table, part, rows, title)]
    own = [row for row in rows if not row.get("tuned")]
    return [
        _block(table, part, own, f"{title}; as published"),
        _block(table, part, tuned, f"{title}; tuned"),
    ]


def _block(
    table: Mapping[str, Any], part: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], title: str
) -> Block:
    columns = part["columns"]
    best_values = {
        column: best(
            table,
            column,
            [row["values"][column]["mean"] for row in rows if row["values"].get(column)],
        )
        for column in columns
    }
    compared = marked(table, part)
    lines = []
    for row in rows:
        cells: list[Cell | None] = []
        for column in columns:
            value = row["values"].get(column)
            if value is None:
                cells.append(None)
                continue
            low, high = value["ci95"]
            entry = compared.get((row_id(row), column))
            cells.append(
                Cell(
                    f"{value['mean']:.2f}",
                    f"[{low:.1f}, {high:.1f}]",
                    value["mean"] == best_values[column],
                    mark(table, entry) if entry is not None else "",
                )
            )
        lines.append((row["label"], _size(row["values"].values()), cells))
    return Block(title, [heading_of(table, column) for column in columns], lines)


def _tuning_block(table: Mapping[str, Any]) -> Block:
    """Return what was chosen for each tuned row, chain by chain, and what it cost."""
    labels = {row_id(row): row["label"] for row in table["rows"]}
    lines: list[tuple[str, str, list[Cell | None]]] = []
    for row, chains in table["tuning"]["rows"].items():
        trials = [trial for own in chains.values() for trial in own["trials"]]
        texts = (
            "; ".join(f"{chain}: {chosen_text(own)}" for chain, own in chains.items()),
            f"{sum(trial['state'] == 'failed' for trial in trials)} of {len(trials)}",
            f"{sum(own['seconds'] for own in chains.values()):.0f} s",
        )
        lines.append((labels[row], "", [Cell(text, "") for text in texts]))
    return Block("What was chosen, and its cost", ["chosen", "failed", "cost"], lines)


def _paper_block(table: Mapping[str, Any]) -> Block:
    papers = [(row["label"], row["paper"]) for row in table["rows"] if row["paper"]]
    columns = [c for c in table["columns"] if any(c in values for _, values in papers)]
    best_values = {
        column: best(table, column, [values[column] for _, values in papers if column in values])
        for column in columns
    }
    lines: list[tuple[str, str, list[Cell | None]]] = [
        (
            label,
            "",
            [
                Cell(f"{values[c]:.2f}", "", values[c] == best_values[c]) if c in values else None
                for c in columns
            ],
        )
        for label, values in papers
    ]
    return Block(paper_heading(table), [heading_of(table, column) for column in columns], lines)


def _size(values: Any) -> str:
    """Return "n × seeds", with the smallest and largest n of the columns."""
    found = [value for value in values if value is not None]
    if not found:
        return MISSING
    smallest, largest = min(v["n"] for v in found), max(v["n"] for v in found)
    rows = f"{largest}" if smallest == largest else f"{smallest}–{largest}"
    return f"{rows} × {found[0]['seeds']}"


def table_files(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the table in every text form, file name → content."""
    name = table["id"]
    return {
        f"{name}.md": to_markdown(table),
        f"{name}.csv": to_csv(table),
        f"{name}.tex": to_latex(table),
    }


def to_markdown(table: Mapping[str, Any]) -> str:
    """Return blocks and notes in Markdown, with the best values in bold."""
    parts: list[str] = []
    for block in blocks(table):
        sized = any(size for _, size, _ in block.rows)
        header = ["method", *block.columns, *(["n × seeds"] if sized else [])]
        lines = [
            f"**{block.title}**",
            "",
            "| " + " | ".join(header) + " |",
            "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|",
        ]
        for label, size, cells in block.rows:
            texts = [_markdown_cell(cell) for cell in cells]
            row = [markdown_text(label), *texts, *([size] if sized else [])]
            lines.append("| " + " | ".join(row) + " |")
        parts.append("\n".join(lines))
    parts.append("\n".join(f"- {note}" for note in shown_notes(table)))
    return "\n\n".join(parts) + "\n"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    value = f"**{cell.value}**" if cell.best else cell.value
    return f"{value}{cell.mark} {cell.interval}".strip()


def to_csv(table: Mapping[str, Any]) -> str:
    """Return CSV with one line per number; the columns are `_CSV_COLUMNS`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for part in parts_of(table):
        compared = marked(table, part)
        for row in part["rows"]:
            for column in part["columns"]:
                value = row["values"].get(column)
                entry = compared.get((row_id(row), column))
                paper = (row.get("paper") or {}).get(column, "")
                numbers = (
                    [value["mean"], *value["ci95"], value["n"], value["seeds"]]
                    if value is not None
                    else [""] * 5
                )
                tests = (
                    [entry["difference"], entry["p_holm"], entry["significant"]]
                    if entry
                    else [""] * 3
                )
                ids = [table["id"], table["profile"], row_id(row), row["method"], column]
                writer.writerow([*ids, *numbers, *tests, paper])
    return stream.getvalue()


def to_latex(table: Mapping[str, Any]) -> str:
    """Return a LaTeX fragment of tables; its first lines name the packages that it needs."""
    parts = []
    for index, block in enumerate(blocks(table)):
        lines = [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape(block.title)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * len(block.columns)}}}",
            r"\toprule",
            " & ".join(["Method", *map(escape, block.columns)]) + r" \\",
            r"\midrule",
        ]
        for label, _, cells in block.rows:
            texts = [_tex_cell(cell) for cell in cells]
            lines.append(" & ".join([escape(label), *texts]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}}"]
        if index == 0:
            notes = " ".join(escape(note) for note in shown_notes(table))
            lines += [r"\par\smallskip", rf"{{\footnotesize {notes}\par}}"]
        lines.append(r"\end{table}")
        parts.append("\n".join(lines))
    needs = [r"% \usepackage{booktabs,graphicx}"]
    if not all(part.isascii() for part in parts):
        needs.append(r"% \usepackage{fontspec} and LuaLaTeX or XeLaTeX: not all of it is ASCII")
    return "\n".join(needs) + "\n\n" + "\n\n".join(parts) + "\n"


def _tex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    value = rf"\textbf{{{cell.value}}}" if cell.best else escape(cell.value)
    marked = rf"$^{{{_TEX_MARKS[cell.mark]}}}$" if cell.mark else ""
    interval = rf" {{\scriptsize {cell.interval}}}" if cell.interval else ""
    return value + marked + interval


def print_table(table: Mapping[str, Any], console: Console) -> None:
    """Print blocks and notes in the terminal."""
    for block in blocks(table):
        console.print(_rich(block))
    print_notes(table, console)


def print_notes(result: Mapping[str, Any], console: Console) -> None:
    """Print a result's notes in the terminal."""
    for note in shown_notes(result):
        console.print(note, style="dim", markup=False, highlight=False)


def _rich(block: Block) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    sized = any(size for _, size, _ in block.rows)
    shown = Table(title=block.title, box=box.SIMPLE_HEAD, title_justify="left")
    shown.add_column("method", no_wrap=True)
    for column in block.columns:
        shown.add_column(column, justify="right")
    if sized:
        shown.add_column("n × seeds", justify="right")
    for label, size, cells in block.rows:
        texts = []
        for cell in cells:
            if cell is None:
                texts.append(Text(MISSING))
                continue
            text = Text(cell.value + cell.mark, style="bold" if cell.best else "")
            if cell.interval:
                text.append("\n" + cell.interval, style="not bold dim")
            texts.append(text)
        shown.add_row(Text(label), *texts, *([Text(size)] if sized else []))
    return shown
