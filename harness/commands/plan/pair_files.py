"""What a file of preference pairs holds: its rows, and how long they are."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_LOOKED_AT = 2_000
"""Rows of a file whose lengths are read; all of them are counted."""


class FilePairs(NamedTuple):
    """Rows of a file, and the mean characters of those that are pairs."""

    rows: int
    prompt: float
    response: float


def pairs_of_file(path: Path) -> FilePairs | None:
    """Count a file's rows and measure its first ones.

    Args:
        path: JSON Lines, gzipped or not, or a folder of such files.

    Returns:
        Its size; None if no row is a pair.
    """
    rows, prompt, response, looked = 0, 0.0, 0.0, 0
    for line in _lines(path):
        rows += 1
        lengths = _lengths(line) if looked < _LOOKED_AT else None
        if lengths is not None:
            looked += 1
            prompt, response = prompt + lengths[0], response + lengths[1]
    return FilePairs(rows, prompt / looked, response / looked) if looked else None


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of JSON Lines, gzipped or not, of a file or the files of a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in files:
        if not any(file.name.endswith(end) for end in (".jsonl", ".jsonl.gz")):
            continue
        opener = gzip.open if file.suffix == ".gz" else open
        try:
            with opener(file, "rt", encoding="utf-8") as stream:
                yield from stream
        except (OSError, EOFError, zlib.error, UnicodeDecodeError):
            # The stage that reads it says what is wrong; a run that is planned goes that far.
            continue


def _lengths(line: str) -> tuple[float, float] | None:
    """Return the characters of a row's prompt and of its mean response; None for other rows."""
    try:
        row = json.loads(line)
        chosen, rejected = _text(row["chosen"]), _text(row["rejected"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if "prompt" in row:
        prompt = len(_text(row["prompt"]))
    else:
        prompt = _shared(chosen, rejected)
        chosen, rejected = chosen[prompt:], rejected[prompt:]
    return prompt, (len(chosen) + len(rejected)) / 2


def _shared(first: str, second: str) -> int:
    """Return the number of characters that two texts begin with in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _text(content: Any) -> str:
    """Return the text of a string or of chat messages."""
    if isinstance(content, str):
        return content
    return "\n".join(str(message["content"]) for message in content)
