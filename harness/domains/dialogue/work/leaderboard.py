"""The stage that evaluates a model on the leaderboard."""

from __future__ import annotations

from harness.domains.common.work.files import sources, starting_model
from harness.graph.stages import StageContext
from tasks.leaderboard_v2.evaluate import LeaderboardSettings, evaluate_leaderboard


def evaluate(context: StageContext) -> None:
    """Write leaderboard.json.

    Configuration: `sources` (benchmark → "world", "hub", "file" or None), `settings`
    (LeaderboardSettings' fields) and `model` (a hub id, where no stage or folder is the model).
    """
    evaluate_leaderboard(
        starting_model(context),
        sources(context),
        LeaderboardSettings(**context.config["settings"]),
        context.work,
        progress=context.progress,
    )
