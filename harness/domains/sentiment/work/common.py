"""What the sentiment stages share: names of files, texts as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sparsepo.data.jsonl import read_jsonl, write_jsonl

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
