"""Whether a result can be on the leaderboard, and beside another one of its experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.commands.compare import flat_settings
from harness.config.methods import METHOD_TABLE
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.closure import code_version, find_module
from harness.render.columns import higher_is_better, parts_of

_STATISTICS = ("replicates", "seed", "alpha")
_TASK_VERSIONS = ("lm_eval",)
_FREE = ("methods", "tuning", "workers", "device", "description", "generation")
"""Settings in which entries may differ: their own hyper-parameters, and how a run is executed."""
_FREE_LIBRARIES = ("torch", "transformers", "tokenizers")
"""Libraries of the machine rather than of the task; they are named beside the entry."""


def unusable(result: Mapping[str, Any]) -> str | None:
    """Return why a result cannot be on the leaderboard at all, as one sentence, or None.

    Args:
        result: an experiment's JSON of valid shape.
    """
    again = f"run {result['id']} again, which reuses what it can from the store"
    if result["id"] not in EXPERIMENTS:
        return f"{result['id']} is no experiment of this version; see python -m harness list."
    made = result["provenance"]
    for name in ("settings", "statistics", "versions"):
        if not isinstance(made.get(name), Mapping):
            return f"It does not say with which {name} it was made; {again}."
    cells = list(_cells(result))
    if not cells:
        return f"It has no value; {again}."
    if not all("per_chain" in cell for cell in cells):
        return f"It was written by an older version, without the values of each chain; {again}."
    if not all(len(cell["per_chain"]) == cell["seeds"] for cell in cells):
        return f"Not every cell has as many values as chains; {again}."
    if len(_chain_counts(cells)) > 1:
        return f"Its cells have different numbers of chains; {again}."
    return None


def difference(board: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return why two results of an experiment cannot be compared, as one sentence, or None.

    Args:
        board: the result that is on the leaderboard.
        other: the result that is to stand beside it.
    """
    return next(_differences(board, other), None)


def foreign_code(result: Mapping[str, Any]) -> str | None:
    """Return why a result is not of this version's stages, as one sentence, or None.

    Args:
        result: one whose provenance names its stages.
    """
    for function, code in result["provenance"]["stages"].items():
        module = function.partition(":")[0]
        if find_module(module) is None:
            return f"Its stage {function} is unknown here; make it with this version."
        known = {code_version((module,), without)[: len(code)] for without in ((), METHOD_TABLE)}
        if code not in known:
            return (
                f"The code of its stage {function} is {code}, here {min(known)}; make it with "
                "this version."
            )
    return None


def outdated(result: Mapping[str, Any]) -> bool:
    """Return whether a result was made by other code than this version's."""
    return not result["provenance"].get("stages") or foreign_code(result) is not None


def _differences(board: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    mine, its = board["provenance"], other["provenance"]
    again = "make it again with the same values"
    for column in (name for block in parts_of(other) for name in block["columns"]):
        if column not in board["column_labels"]:
            yield f"The leaderboard has no column {column} of {board['id']}; {again}."
        elif higher_is_better(other, column) is not higher_is_better(board, column):
            yield f"Its column {column} has another direction; {again}."
    for name in _STATISTICS:
        if mine["statistics"].get(name) != its["statistics"].get(name):
            yield (
                f"It has statistics.{name} {its['statistics'].get(name)}, the leaderboard "
                f"{mine['statistics'].get(name)}; {again}."
            )
    for name, versions in _versions(mine, its).items():
        if versions[0] != versions[1]:
            yield (
                f"It was made with {name} {versions[1]}, the leaderboard with {versions[0]}; "
                f"{again}."
            )
    counts = [_chain_counts(_cells(one)) for one in (board, other)]
    if counts[0] != counts[1]:
        yield f"It has {_listed(counts[1])} chains, the leaderboard {_listed(counts[0])}; {again}."
    yield from _code_differences(mine, its)
    flat = [flat_settings(one["settings"]) for one in (mine, its)]
    for name in dict.fromkeys([*flat[0], *flat[1]]):
        if name.partition(".")[0] not in _FREE and flat[0].get(name) != flat[1].get(name):
            yield (
                f"It has {name} {flat[1].get(name)}, the leaderboard {flat[0].get(name)}; {again}."
            )


def _listed(counts: set[int]) -> str:
    return ", ".join(map(str, sorted(counts))) or "1"


def _code_differences(mine: Mapping[str, Any], its: Mapping[str, Any]) -> Iterator[str]:
    stages = [one.get("stages") for one in (mine, its)]
    if not stages[0] and not stages[1]:
        # Two results of an older version, which say their commit alone.
        if mine["git_commit"] != its["git_commit"]:
            yield (
                "It is of another commit, and neither result names the code of its stages; run "
                "both again."
            )
        return
    if not isinstance(stages[0], Mapping):
        yield "The leaderboard's own result does not name the code of its stages; run it again."
        return
    if not isinstance(stages[1], Mapping) or not stages[1]:
        yield "It does not name the code of its stages; make it with this version."
        return
    for function, code in stages[1].items():
        expected = stages[0].get(function)
        if expected is not None and expected != code:
            yield (
                f"The code of its stage {function} is {code}, the leaderboard's {expected}; make "
                "both with one version."
            )
    if not set(stages[0]) & set(stages[1]):
        yield "It has no stage in common with the leaderboard's; make it with this version."


def _versions(
    mine: Mapping[str, Any], its: Mapping[str, Any]
) -> dict[str, tuple[str | None, str | None]]:
    """Return the versions of what asks and scores: library → (the leaderboard's, its)."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for name in _TASK_VERSIONS:
        found[name] = (mine["versions"].get(name), its["versions"].get(name))
    parts = [_evaluation_versions(one) for one in (mine, its)]
    for name in dict.fromkeys([*parts[0], *parts[1]]):
        if name not in _FREE_LIBRARIES:
            found[name] = (parts[0].get(name), parts[1].get(name))
    return found


def _evaluation_versions(made: Mapping[str, Any]) -> Mapping[str, Any]:
    evaluation = made.get("evaluation")
    versions = evaluation.get("versions") if isinstance(evaluation, Mapping) else None
    return versions if isinstance(versions, Mapping) else {}


def _chain_counts(cells: Iterable[Mapping[str, Any]]) -> set[int]:
    """Return the numbers of chains, but for models that are the same in every chain."""
    return {cell["seeds"] for cell in cells} - {1}


def _cells(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for block in parts_of(result):
        for row in block["rows"]:
            yield from (cell for cell in row["values"].values() if cell is not None)
