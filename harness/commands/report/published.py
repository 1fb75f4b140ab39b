"""What the page of a published run shows beside its result: where it comes from, and its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.commands.compare import compare_results, report_lines
from harness.commands.leaderboard.checks import outdated
from harness.commands.leaderboard.costs import TIMINGS
from harness.commands.publish.readme import compare_command, facts
from harness.commands.publish.record import PublishedRun
from sparsepo.errors import UserError


def published_view(run: PublishedRun, own: Path | None) -> dict[str, Any]:
    """Return what the templates show of a published run.

    Args:
        run: the run.
        own: the JSON of the user's own result of the same experiment and profile, if there is one.
    """
    record = run.record
    return {
        "name": run.name,
        "facts": facts(record),
        "limits": list(record["limits"]),
        "note": list(record["note"]),
        "outdated": outdated(run.result),
        "compare": compare_command(run.name, record),
        "own": None if own is None else _compared(run.file, own),
        "own_page": None if own is None else f"{record['profile']}/{record['folder']}.html",
        "stages": _stages(run.folder / TIMINGS),
    }


def _compared(published: Path, own: Path) -> str:
    """Return the comparison of two results as one sentence."""
    try:
        *_, summary = report_lines(compare_results(published, own))
    except UserError as error:
        return str(error)
    return f"{summary}."


def _stages(file: Path) -> list[tuple[str, float]]:
    """Return the name and the seconds of each stage."""
    timings = json.loads(file.read_text(encoding="utf-8"))
    seconds: Mapping[str, float] = timings["seconds"]
    return [(name, float(value)) for name, value in seconds.items()]
