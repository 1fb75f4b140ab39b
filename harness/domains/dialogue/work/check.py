"""The stage that reads every benchmark file before anything is trained."""

from __future__ import annotations

from harness.domains.common.work.files import sources, write_json
from harness.graph.stages import StageContext
from tasks.leaderboard_v2.rows import describe_missing


def check_benchmarks(context: StageContext) -> None:
    """Read every local benchmark file to detect a broken one before any training."""
    write_json(describe_missing(sources(context)), context.work / "missing.json")
