"""The JSON of experiments, read from a file that a user names, or all of a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.render.columns import TUNED, parts_of
from sparsepo.errors import UserError

LEADERBOARD, CLAIMS = "leaderboard", "claims"
"""Folders beside the results of a profile that are made from all of them."""


def read_result_file(file: Path, keys: Sequence[str] = ("id",)) -> dict[str, Any]:
    """Return the JSON that a run has written.

    Args:
        file: the file.
        keys: what it must have.

    Raises:
        UserError: the file cannot be read, or is not a result.
    """
    try:
        text = file.read_text(encoding="utf-8")
        result = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except _NotFiniteError as error:
        raise UserError(
            f"{file} holds {error}, which is no value; run its experiment again."
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{file} is not valid JSON; run its experiment again.") from None
    if not isinstance(result, dict) or not set(keys) <= set(result):
        raise not_a_result(file)
    return result


def not_a_result(file: Path) -> UserError:
    """Return the error for a file that is not the result of an experiment."""
    return UserError(
        f"{file} is not the result of an experiment; give the JSON file that a run wrote."
    )


@dataclass(frozen=True)
class Problem:
    """A result that could not be used."""

    name: str
    """The experiment's, or the file's."""
    reason: str
    """One plain sentence with the remedy."""

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.name} is left out: {self.reason}"


@dataclass(frozen=True)
class FoundResults:
    """The results of a profile."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of the folder (the experiment's id; with "-tuned" where it has tuned rows) → JSON."""
    problems: list[Problem] = field(default_factory=list)
    """What could not be read, and why."""


def find_results(results: Path, profile: str) -> FoundResults:
    """Read all results of a profile; what cannot be read is reported and left out.

    Args:
        results: the folder that `run --out` names.
        profile: the profile's name.

    Returns:
        The results by name, in alphabetical order; none if the folder does not exist.
    """
    found = FoundResults()
    folder = results / profile
    try:
        places = sorted(path for path in folder.iterdir() if _may_hold_a_result(path))
    except FileNotFoundError:
        return found
    except OSError as error:
        found.problems.append(Problem(str(folder), f"The folder cannot be read: {error.strerror}."))
        return found
    for place in places:
        file = place / f"{place.name.removesuffix(TUNED)}.json"
        try:
            # Without permission for the folder, whether the file exists is not known either.
            if not file.exists():
                continue
            found.results[place.name] = read_checked(file, profile)
        except UserError as error:
            found.problems.append(Problem(place.name, str(error)))
        except OSError as error:
            found.problems.append(Problem(place.name, f"{file} cannot be read: {error.strerror}."))
    return found


def read_checked(file: Path, profile: str) -> dict[str, Any]:
    """Return the JSON of an experiment, whose parts have the shape that `run` gives them.

    Args:
        file: the file, which has the experiment's name.
        profile: the profile that it must be of.

    Raises:
        UserError: it cannot be read, is not a result, or is one of another profile or schema.
    """
    result = read_result_file(file, ("id", "profile"))
    if result["profile"] != profile:
        raise UserError(f"{file} is of the profile {result['profile']}, not {profile}.")
    problem = shape_problem(result)
    if problem is not None:
        raise UserError(
            f"{file} was not written by this version of the command ({problem}); run "
            f"{result['id']} again."
        )
    return result


def shape_problem(result: Mapping[str, Any]) -> str | None:
    """Return the first difference of a result from the schema, or None.

    Args:
        result: its JSON; experiments without rows, such as token maps, have no further schema.
    """
    try:
        return _shape_problem(result)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _shape_problem(result: Mapping[str, Any]) -> str | None:
    if not isinstance(result["id"], str) or not isinstance(result.get("provenance"), dict):
        return "id or provenance is missing"
    if "rows" not in result:
        return None
    for block in parts_of(result):
        unknown = [name for name in block["columns"] if name not in result["column_labels"]]
        if unknown:
            return f"the column {unknown[0]} has no label"
        for row in block["rows"]:
            if not isinstance(row["label"], str) or not isinstance(row["method"], str):
                return "a row has no label or method"
            for column in block["columns"]:
                cell = row["values"][column]
                if cell is not None and not _is_cell(cell):
                    return f"{row['label']} has no valid value of {column}"
    return None


def _is_cell(cell: Any) -> bool:
    numbers = [cell["mean"], *cell["ci95"], *cell.get("per_chain", [])]
    if len(cell["ci95"]) != 2 or not all(isinstance(one, int | float) for one in numbers):
        return False
    return all(isinstance(cell[name], int) and cell[name] > 0 for name in ("n", "seeds"))


def _may_hold_a_result(path: Path) -> bool:
    return (
        path.is_dir() and not path.name.startswith(".") and path.name not in (LEADERBOARD, CLAIMS)
    )


class _NotFiniteError(ValueError):
    """A number that JSON has no form for."""


def _refuse(constant: str) -> NoReturn:
    raise _NotFiniteError(constant)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotFiniteError(text)
    return value
