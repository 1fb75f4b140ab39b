"""A result as `run` leaves it: JSON, drawn files, timings, samples."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.domains.common.samples import samples_name
from tests.harness.commands.report.folder import PIXEL, samples, small_table, write_samples_of

DRAWN = {
    **{f"table1.{kind}": f"as {kind}".encode() for kind in ("md", "csv", "tex")},
    "table1.png": PIXEL,
}
LIMITS = """The models have half a million parameters.

- Three chains: differences below
  two points cannot be seen.
- The data are synthetic.
"""
COMMAND = "python -m harness run --table 1 --profile tiny"
TIMINGS = {
    "seconds": {"world seed 42": 12.5, "dpo seed 42": 100.0},
    "total_seconds": 112.5,
    "finished": "2026-01-31T12:00:00Z",
    "training": {},
}


class Drawing:
    """A domain that draws in no time; of a result that is none, it fails as a domain does."""

    def files(self, experiment: Any, result: Mapping[str, Any]) -> Mapping[str, bytes]:
        return DRAWN if result["title"] else {}


def publishable(**provenance: Any) -> dict[str, Any]:
    """Return a table's JSON whose provenance says everything."""
    result = small_table()
    settings = {"seed": 42, "seeds": 3, "data": {"hh_rlhf": "world"}}
    result["provenance"] |= {
        "command": COMMAND,
        "python": "3.11.9",
        "settings": settings,
        **provenance,
    }
    return result


def write_run(results: Path, result: dict[str, Any] | None = None, count: int = 12) -> Path:
    """Write a result and, in place of what is drawn from it, short texts; return its folder."""
    folder = results / "tiny/table1"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "table1.json"
    file.write_text(json.dumps(publishable() if result is None else result))
    for name, drawn in DRAWN.items():
        (folder / name).write_bytes(drawn)
    (folder / "timings.json").write_text(json.dumps(TIMINGS))
    # Samples of the same stages are not written again.
    (folder / samples_name("table1")).unlink(missing_ok=True)
    write_samples_of(folder, "table1", samples(count))
    os.utime(file, (0, 0))
    return folder


def write_limits(folder: Path, text: str = LIMITS) -> Path:
    """Write the text that every published run has."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "limits.md"
    file.write_text(text, encoding="utf-8")
    return file
