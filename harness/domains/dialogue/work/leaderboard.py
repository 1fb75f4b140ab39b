"""The stage that evaluates a model on the leaderboard."""

from __future__ import annotations

from harness.domains.common.work.files import MODEL, sources
from harness.graph.stages import StageContext
from tasks.leaderboard_v2.evaluate import LeaderboardSettings, evaluate_leaderboard


def evaluate(context: StageContext) -> None:
    """Write leaderboard.json.

    Configuration: `sources` (benchmark → "world", "hub", "file" or None) and `settings`
    (LeaderboardSettings' fields).
    """
    evaluate_leaderboard(
        context.inputs["model"] / MODEL,
        sources(context),
        LeaderboardSettings(**context.config["settings"]),
        context.work,
        progress=context.progress,
    )
