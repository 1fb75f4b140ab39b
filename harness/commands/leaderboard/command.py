"""``python -m harness leaderboard`` and ``leaderboard add``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.leaderboard.added import added_folder, as_file, read_foreign
from harness.commands.leaderboard.board import leaderboard_json
from harness.commands.leaderboard.checks import difference, foreign_code, unusable
from harness.commands.leaderboard.show import csv_text, show
from harness.commands.leaderboard.sources import compares_methods, find_sources, new_rows
from harness.commands.made_by import selector
from harness.commands.result_file import LEADERBOARD
from harness.graph.files import pretty_json, write_files
from sparsepo.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[[str], object]


def run_leaderboard(
    results: Path, profile: str, against: str | None, out: Path | None, console: Console
) -> None:
    """Print the leaderboard and write it as JSON and CSV.

    Args:
        results: the folder that `run --out` names.
        profile: the profile.
        against: id of the entry that the others are compared with.
        out: folder of the files; None for `leaderboard/` beside the results.
        console: where to print.

    Raises:
        UserError: there are no results, `against` is unknown, or the files cannot be written.
    """
    board = leaderboard_json(results, profile, against)
    if not board["entries"]:
        for one in board["left_out"]:
            console.print(f"{one['name']} is left out: {one['reason']}", markup=False)
        raise UserError(
            f"No result of the profile {profile} in {results} can be on the leaderboard; run one, "
            f"such as python -m harness run --table 1 --profile {profile}, or name their folder "
            "with --results DIR."
        )
    show(board, console)
    folder = results / profile / LEADERBOARD if out is None else out
    write_files(folder, board_files(board))
    console.print(f"written: {folder / 'leaderboard'}.{{csv,json}}", markup=False, soft_wrap=True)


def board_files(board: dict[str, Any]) -> dict[str, str]:
    """Return the leaderboard's files: name → content."""
    return {"leaderboard.json": pretty_json(board), "leaderboard.csv": csv_text(board)}


def add_entry(file: Path, results: Path, say: Say = print) -> Path:
    """Check a result that was made elsewhere, and keep it beside those of the same profile.

    Args:
        file: the JSON that a run wrote; costs are read from the timings.json beside it.
        results: the folder that `run --out` names.
        say: called with each line for the user.

    Returns:
        The file that keeps it.

    Raises:
        UserError: it cannot be on this leaderboard, with the reason.
    """
    added = read_foreign(file)
    result = added.result
    reason = unusable(result)
    if reason is None and not compares_methods(result):
        reason = "Its rows are variants of methods; the leaderboard compares methods."
    if reason is not None:
        raise _refused(file, reason)
    if not result["provenance"].get("stages"):
        raise _refused(file, "It does not name the code of its stages; make it with this version.")
    sources = find_sources(results, result["profile"])
    others = sources.of(result["id"])
    reason = difference(others[0].result, result) if others else foreign_code(result)
    if reason is not None:
        raise _refused(file, reason)
    rows = new_rows(sources, result)
    if not rows:
        raise _refused(file, "All of its rows are on the leaderboard already.")
    name, content = as_file(added)
    folder = added_folder(results, result["profile"])
    # A file that cannot be written as strict JSON would be refused when it is read.
    write_files(folder, {name: json.dumps(content, allow_nan=False)})
    say(f"added {', '.join(rows)} of {result['id']} ({result['profile']} profile)")
    if not others:
        say(
            f"There is no result of {result['id']} here to compare it with; make one with python "
            f"-m harness run {' '.join(selector(result['id']))} --profile {result['profile']}."
        )
    if not added.costs:
        say(f"Its cost is not known, because there is no timings.json beside {file}.")
    say(f"written: {folder / name}")
    return folder / name


def _refused(file: Path, reason: str) -> UserError:
    return UserError(f"{file} is not added: {reason}")
