"""What the sentiment stages share: names of files, texts as files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsepo.data.jsonl import read_jsonl, write_jsonl

if TYPE_CHECKING:
    from sparsepo.data.pairs import ReadReport

SPLITS = ("train", "test")
LABELS = "labels.json"
PROMPTS = "prompts.json"
SAMPLES = "samples.jsonl"
RESPONSES = "responses.jsonl"
TOKENS = "tokens.npz"
LENGTHS = "lengths"
"""The array of tokens.npz that holds the responses' lengths in tokens."""


def read_texts(path: Path) -> list[str]:
    """Read what `write_texts` wrote."""
    return [row["text"] for row in read_jsonl(path)]


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write texts as rows with the one column `text`."""
    write_jsonl(({"text": text} for text in texts), path)


def without_place(report: ReadReport) -> dict[str, Any]:
    """Return a report's fields; its place on this machine is no part of the result."""
    read = asdict(report)
    read.pop("source")
    return read
