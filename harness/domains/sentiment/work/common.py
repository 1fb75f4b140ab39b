"""Shared by the sentiment stages: file names, and files of texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sparsepo.data.jsonl import read_jsonl, write_jsonl

SPLITS = ("train", "test")
ACCURACY = "accuracy.json"
CLASSIFIER = "classifier.json"
LABELS = "labels.json"
PROMPTS = "prompts.json"
SAMPLES = "samples.jsonl"
RESPONSES = "responses.jsonl"
TOKENS = "tokens.npz"
LENGTHS = "lengths"
"""Name of the array in tokens.npz with the responses' lengths in tokens."""


def read_texts(path: Path) -> list[str]:
    """Read the texts that `write_texts` wrote."""
    return [row["text"] for row in read_jsonl(path)]


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write texts as rows with the single column `text`."""
    write_jsonl(({"text": text} for text in texts), path)
