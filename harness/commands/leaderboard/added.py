"""Entries made elsewhere: checked when they are added, and again whenever they are shown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.leaderboard.costs import TIMINGS, Costs, costs_beside, valid_costs
from harness.commands.result_file import LEADERBOARD, read_result_file, shape_problem
from sparsepo.errors import UserError

FOLDER = "added"
_FORMAT = 1


@dataclass(frozen=True)
class Added:
    """A result made elsewhere."""

    result: dict[str, Any]
    costs: Costs


def added_folder(results: Path, profile: str) -> Path:
    """Return the folder of a profile's added entries."""
    return results / profile / LEADERBOARD / FOLDER


def added_files(results: Path, profile: str) -> list[Path]:
    """Return the files of a profile's added entries, sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    folder = added_folder(results, profile)
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}.") from None


def read_foreign(file: Path) -> Added:
    """Read a result made elsewhere, and the costs in the timings.json beside it, if there is one.

    Args:
        file: the JSON that a run wrote.

    Raises:
        UserError: it cannot be read, is no result, or has another schema.
    """
    result = read_result_file(file, ("id", "profile"))
    _require_shape(file, result)
    return Added(result, costs_beside(file.parent / TIMINGS))


def as_file(added: Added) -> tuple[str, dict[str, Any]]:
    """Return the name and content of the file that keeps an entry; equal results share a name."""
    content = {"format": _FORMAT, "result": added.result, "training": dict(added.costs)}
    text = json.dumps(added.result, sort_keys=True)
    return f"{added.result['id']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json", content


def read_added(file: Path, profile: str) -> Added:
    """Read the file of an added entry.

    Args:
        file: as `as_file` names it.
        profile: the profile that it must be of.

    Raises:
        UserError: it cannot be read or is damaged.
    """
    content = read_result_file(file, ("format", "result"))
    result = content["result"]
    if content["format"] != _FORMAT or not isinstance(result, dict):
        raise UserError(f"{file} is of another version; add its result again.")
    _require_shape(file, result)
    if result["profile"] != profile:
        raise UserError(f"{file} is of the profile {result['profile']}, not {profile}.")
    return Added(result, valid_costs(content.get("training")))


def _require_shape(file: Path, result: dict[str, Any]) -> None:
    problem = shape_problem(result)
    if problem is not None or not isinstance(result.get("profile"), str):
        raise UserError(
            f"{file} has another schema than results of this version "
            f"({problem or 'no profile'}); make it again with this version."
        )
