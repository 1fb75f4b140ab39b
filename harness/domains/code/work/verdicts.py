"""Writes and reads files of verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparsepo.data.jsonl import read_jsonl, write_jsonl
from tasks.code.judging import Result

DETAIL_LENGTH = 200
"""Characters of a verdict's reason that are kept."""


def write_verdicts(results: Iterable[Result], path: Path) -> None:
    """Write verdicts, one JSON object per line, without values that vary between runs."""
    write_jsonl(map(_row, results), path)


def _row(result: Result) -> dict[str, Any]:
    row = {"verdict": result.verdict, "detail": result.detail[:DETAIL_LENGTH]}
    return {**row, "suspect": True} if result.suspect else row


def read_verdicts(path: Path) -> list[Result]:
    """Read the verdicts that `write_verdicts` wrote; times are not stored and are 0."""
    return [
        Result(row["verdict"], row["detail"], 0.0, 0.0, row.get("suspect", False))
        for row in read_jsonl(path)
    ]
