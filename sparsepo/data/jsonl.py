"""The project's own JSON Lines files: one object a line, written and read here alone.

`sparsepo.data.rows` reads everybody's files and says what is wrong with them; these come from us.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path, *, append: bool = False) -> None:
    """Write rows, one JSON object a line.

    The file is ASCII: lone surrogates, which UTF-8 cannot hold, and characters at which some
    readers break lines are written as escapes.

    Args:
        rows: what ``json`` can write.
        path: the file.
        append: keep the rows that are there.
    """
    with path.open("a" if append else "w", encoding="ascii") as stream:
        for row in rows:
            stream.write(json.dumps(row) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that `write_jsonl` wrote."""
    # Not splitlines(), which also breaks lines at characters that JSON text may hold.
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)
