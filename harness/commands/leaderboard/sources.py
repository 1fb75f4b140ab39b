"""The results that make the leaderboard: those of runs, and those made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.commands.leaderboard.added import added_files, read_added
from harness.commands.leaderboard.checks import difference, unusable
from harness.commands.leaderboard.costs import Costs, read_costs
from harness.commands.result_file import Problem, find_results
from harness.render.columns import TUNED, parts_of, row_id
from sparsepo.errors import UserError

RUN, ADDED = "run", "added"


@dataclass(frozen=True)
class Source:
    """A result whose rows, or some of them, are on the leaderboard."""

    experiment: str
    file: str
    """Its name below the folder of results."""
    result: Mapping[str, Any]
    costs: Costs
    origin: str
    """RUN or ADDED."""
    rows: tuple[str, ...]
    """Ids of the rows that it brings."""

    def cells(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield row id, column and cell of every value that it brings."""
        for block in parts_of(self.result):
            for row in block["rows"]:
                if row_id(row) in self.rows:
                    for column in block["columns"]:
                        if row["values"][column] is not None:
                            yield row_id(row), column, row["values"][column]


@dataclass(frozen=True)
class Sources:
    """All of them, and what could not be used."""

    used: list[Source] = field(default_factory=list)
    """Those of runs first; of an experiment, the one that brings the baselines first."""
    left_out: list[Problem] = field(default_factory=list)

    def of(self, experiment: str) -> list[Source]:
        """Return those of an experiment."""
        return [source for source in self.used if source.experiment == experiment]


def find_sources(results: Path, profile: str) -> Sources:
    """Read what the leaderboard of a profile is made of.

    Args:
        results: the folder that `run --out` names.
        profile: the profile.

    Returns:
        The results of all experiments whose rows are methods, and what was left out.
    """
    found = find_results(results, profile)
    sources = Sources(left_out=list(found.problems))
    # A folder with tuned rows repeats the others; those of the plain folder come first.
    for name in sorted(found.results, key=lambda one: (one.endswith(TUNED), one)):
        result = found.results[name]
        if not compares_methods(result):
            continue
        try:
            reason = unusable(result) or _unlike(sources, result)
            if reason is not None:
                raise UserError(reason)
            costs = read_costs(results, profile, name)
            _take(sources, result, costs, RUN, f"{profile}/{name}/{result['id']}.json")
        except UserError as error:
            sources.left_out.append(Problem(name, str(error)))
    try:
        files = added_files(results, profile)
    except UserError as error:
        sources.left_out.append(Problem("added entries", str(error)))
        return sources
    for file in files:
        try:
            added = read_added(file, profile)
            reason = unusable(added.result) or _unlike(sources, added.result)
            if reason is not None:
                raise UserError(reason)
            name = file.relative_to(results).as_posix()
            _take(sources, added.result, added.costs, ADDED, name)
        except UserError as error:
            sources.left_out.append(Problem(file.name, str(error)))
    return sources


def compares_methods(result: Mapping[str, Any]) -> bool:
    """Return whether an experiment's rows are methods, not variants of a few.

    Args:
        result: its JSON.
    """
    if "significance" not in result:
        return False
    rows = [row for block in parts_of(result) for row in block["rows"]]
    return bool(rows) and all(row_id(row).removesuffix(TUNED) == row["method"] for row in rows)


def new_rows(sources: Sources, result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the rows that a result would bring, which no other result of its experiment has.

    Args:
        sources: what is on the leaderboard.
        result: another result.
    """
    known = {row for source in sources.of(result["id"]) for row in source.rows}
    own = dict.fromkeys(row_id(row) for block in parts_of(result) for row in block["rows"])
    return tuple(row for row in own if row not in known)


def _take(
    sources: Sources, result: Mapping[str, Any], costs: Costs, origin: str, file: str
) -> None:
    rows = new_rows(sources, result)
    if rows:
        sources.used.append(Source(result["id"], file, result, costs, origin, rows))


def _unlike(sources: Sources, result: Mapping[str, Any]) -> str | None:
    """Return why a result cannot stand beside that of the same experiment, if there is one."""
    others = sources.of(result["id"])
    return difference(others[0].result, result) if others else None
