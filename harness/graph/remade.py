"""Which stages of a run the store has already, made by other code or other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.graph.stages import FORMAT, Stage
from harness.graph.store import Store


def remade_note(missing: Sequence[Stage], store: Store) -> str:
    """Say how many of the stages to run were made before, and what has changed since.

    After an update a run begins again, although its store is full. Without this note, that looks
    like a lost store.

    Args:
        missing: the stages to run.
        store: where they are not.

    Returns:
        One sentence, empty if none was made before.
    """
    if not missing:
        return ""
    earlier = _Earlier(store)
    found = [changes for stage in missing if (changes := earlier.changes(stage)) is not None]
    if not found:
        return ""
    changed = sorted(set().union(*found))
    return (
        f"{len(found)} of the stages to run were made before and have to be made again, because "
        f"this has changed since: {', '.join(changed)}."
    )


class _Earlier:
    """The records of a store, and which of them are a stage as it was made before.

    Args:
        store: the artefacts; those that cannot be read are skipped.
    """

    def __init__(self, store: Store) -> None:
        self._records: dict[str, dict[str, Any]] = {}
        self._alike: dict[tuple[str, str], list[str]] = {}
        self._compared: dict[tuple[str, str], frozenset[str] | None] = {}
        for address in store.addresses():
            try:
                content = store.record(address)
                record = content["stage"]
                if record["format"] != FORMAT:
                    continue
                alike = self._alike.setdefault((content["name"], record["function"]), [])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            alike.append(address)
            self._records[address] = record

    def changes(self, stage: Stage) -> frozenset[str] | None:
        """Return what has changed since a stage was made, or None if it has not been made."""
        found = (
            self._compare(stage, old) for old in self._alike.get((stage.name, stage.function), ())
        )
        known = [changes for changes in found if changes is not None]
        return min(known, key=len, default=None)

    def _compare(self, stage: Stage, old: str) -> frozenset[str] | None:
        """Return what has changed, None if the stage was not asked for before."""
        if stage.address == old:
            return frozenset()
        key = (stage.address, old)
        if key not in self._compared:
            self._compared[key] = self._compare_anew(stage, old)
        return self._compared[key]

    def _compare_anew(self, stage: Stage, old: str) -> frozenset[str] | None:
        record = self._records.get(old)
        if record is None or not _is_asked_for(stage.record, record):
            return None
        changes = _own_changes(record, stage.record)
        for name, needed in stage.inputs.items():
            of_input = self._compare(needed, record["inputs"][name])
            if of_input is None:
                return None
            changes |= of_input
        return frozenset(changes)


def _is_asked_for(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Tell whether two records agree in everything that a user decides."""
    return (
        all(new[name] == old[name] for name in ("function", "files", "threads"))
        and set(new["inputs"]) == set(old["inputs"])
        and _agree(new["config"], old["config"])
    )


def _agree(new: Any, old: Any) -> bool:
    """Tell whether the values agree that both have; an update may add a setting."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return all(_agree(new[name], old[name]) for name in set(new) & set(old))
    return bool(new == old)


def _own_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    changes = set()
    if old["code"] != new["code"]:
        changes.add("code")
    if old["config"] != new["config"]:
        changes.add("which settings there are")
    before, now = old["libraries"], new["libraries"]
    for name in {*before, *now}:
        if before.get(name) != now.get(name):
            changes.add(f"{name} {before.get(name, 'absent')} → {now.get(name, 'absent')}")
    return changes
