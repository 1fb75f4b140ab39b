"""Pages that other commands compute: the leaderboard, and the paper's claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError

BASELINE = "dpo"
"""The entry that the leaderboard's page compares the others with, where there is one [ours]."""


@dataclass(frozen=True)
class Board:
    """A page that is rendered from the JSON of another command."""

    name: str
    """Of its file, and of the command."""
    title: str
    template: str
    make: Callable[[Path, str], Mapping[str, Any] | None]
    """Called with the folder of results and a profile; None where there is nothing to show."""


def _leaderboard(results: Path, profile: str) -> Mapping[str, Any] | None:
    from harness.commands.leaderboard import leaderboard_json

    board = leaderboard_json(results, profile)
    if any(entry["id"] == BASELINE for entry in board["entries"]):
        board = leaderboard_json(results, profile, BASELINE)
    if not board["entries"] and board["left_out"]:
        first = board["left_out"][0]
        raise UserError(f"No result can be ranked; {first['name']}: {first['reason']}")
    return board if board["entries"] else None


def _claims(results: Path, profile: str) -> Mapping[str, Any] | None:
    from harness.commands.claims import claims_json

    return claims_json(results, profile)


BOARDS = (
    Board("leaderboard", "Leaderboard", "leaderboard.html", _leaderboard),
    Board("claims", "The paper's claims", "claims.html", _claims),
)
