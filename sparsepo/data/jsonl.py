"""Writes and reads the project's own JSON Lines files, with one object per line.

Users' files are read by `sparsepo.data.rows`, which also explains what is wrong with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path, *, append: bool = False) -> None:
    """Write rows, one JSON object per line.

    The file is ASCII: lone surrogates, which UTF-8 cannot encode, and characters that some readers
    take for line breaks are escaped.

    Args:
        rows: JSON data.
        path: the file.
        append: keep the existing rows.
    """
    with path.open("a" if append else "w", encoding="ascii") as stream:
        for row in rows:
            stream.write(json.dumps(row) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that `write_jsonl` wrote."""
    # Not splitlines(), which also splits at other characters that JSON text may contain.
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)
