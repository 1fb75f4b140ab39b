"""The project's own leaderboard: every method with results, over all tasks."""

from harness.commands.leaderboard.board import leaderboard_json

__all__ = ["leaderboard_json"]
