"""What the page of an experiment shows, computed from its JSON alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.domains.catalogue import EXPERIMENTS
from harness.render.columns import (
    BETTER,
    WORSE,
    heading_of,
    mark,
    most_chains,
    parts_of,
    row_id,
)
from harness.render.notes import heading
from harness.render.table import Block, Cell, blocks

_NUMBER = re.compile(r"[-−]?\d+(\.\d+)?")
_NOT_SHOWN = ("timings.json",)


def experiment_view(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the templates show of a result.

    Args:
        result: an experiment's JSON.

    Raises:
        KeyError, TypeError, ValueError: it does not have the shape of this version.
    """
    rows = result.get("rows")
    provenance = result["provenance"]
    known = EXPERIMENTS.get(result["id"])
    return {
        "heading": result.get("heading") or heading(result),
        "title": result["title"],
        "profile": result["profile"],
        "blocks": [] if not rows else [_block(block) for block in blocks(result)],
        "notes": [str(note) for note in result.get("notes", ())],
        "more_notes": [str(note) for note in result.get("more_notes", ())],
        "comparisons": _comparisons(result) if rows else [],
        "provenance": tree(provenance),
        "facts": _facts(provenance),
        "summary": {
            "heading": result.get("heading") or heading(result),
            "domain": "" if known is None else known.domain,
            "rows": len(rows or result.get("methods", ())),
            "chains": most_chains(rows or ()),
            "commit": str(provenance.get("git_commit") or "")[:12],
        },
    }


def shown_files(folder: Path, id: str, *, all_of_them: bool = False) -> list[str]:
    """Return the names of the files of a result that the site offers, pictures first.

    Args:
        folder: the result's.
        id: the experiment's.
        all_of_them: with the duration of stages, which are of one machine.
    """
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.startswith(".")
        and (all_of_them or path.name not in _NOT_SHOWN)
    )
    return sorted(names, key=lambda name: (not name.endswith(".png"), not name.startswith(id)))


def picture_files(files: Sequence[str]) -> list[str]:
    """Return the pictures among files."""
    return [name for name in files if name.endswith(".png")]


def tree(value: Any) -> Any:
    """Return nested data as templates show it: text, or a list of (name, value).

    Args:
        value: JSON data.
    """
    if isinstance(value, Mapping):
        return [(str(name), tree(item)) for name, item in value.items()]
    if isinstance(value, list | tuple):
        if all(not isinstance(item, Mapping | list | tuple) for item in value):
            return ", ".join(tree(item) for item in value)
        return [(str(place), tree(item)) for place, item in enumerate(value, 1)]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the provenance that a reader looks for first."""
    commit = str(provenance.get("git_commit") or "unknown")
    if provenance.get("git_dirty"):
        commit += " (with changes that are not committed)"
    facts = [("commit", commit)]
    facts += [
        (name, str(provenance[name]))
        for name in ("command", "hardware", "model", "python")
        if provenance.get(name)
    ]
    return facts


def _block(block: Block) -> dict[str, Any]:
    sized = any(size for _, size, _ in block.rows)
    return {
        "title": block.title,
        "columns": block.columns,
        "sized": sized,
        "rows": [
            {"label": label, "size": size, "cells": [_cell(cell) for cell in cells]}
            for label, size, cells in block.rows
        ],
    }


def _cell(cell: Cell | None) -> dict[str, Any]:
    if cell is None:
        return {"value": "–", "sort": "", "interval": "", "best": False, "mark": "", "meaning": ""}
    meaning = {"": "", BETTER: "significantly better than", WORSE: "significantly worse than"}
    return {
        "value": cell.value.replace("-", "−") if _NUMBER.fullmatch(cell.value) else cell.value,
        "sort": cell.value if _NUMBER.fullmatch(cell.value) else "",
        "interval": cell.interval.replace("-", "−"),
        "best": cell.best,
        "mark": cell.mark,
        "meaning": meaning.get(cell.mark, "significantly different from"),
    }


def _comparisons(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every comparison with a baseline, of all parts of a result."""
    found = []
    for part in parts_of(result):
        labels = {row_id(row): row["label"] for row in part["rows"]}
        found += [
            {
                "column": heading_of(result, entry["column"]),
                "row": labels.get(row_id(entry), row_id(entry)),
                "baseline": labels.get(entry["baseline"], entry["baseline"]),
                "difference": entry["difference"],
                "ci95": entry["ci95"],
                "p": entry["p"],
                "p_holm": entry["p_holm"],
                "mark": mark(result, entry),
            }
            for entry in part["significance"]
        ]
    return found
