"""What the training runs behind each row have cost, from the files beside their models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.graph.stages import Stage
from harness.graph.store import Store

COST = "cost.json"


def training_costs(graph: Any, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return the cost of each training run of each row.

    Args:
        graph: a domain's graph, with `systems` (row id → its model in each chain) or `runs`.
        store: the finished stages.

    Returns:
        Row id → what each of its training stages has written to cost.json, with the stage's name
        and `reference_seconds`, the time for the cache of the reference's log-probabilities that
        it reads and that others may read too. Rows without a training stage are absent.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row, stage in _trained(graph):
        file = store.folder(stage.address) / COST
        if file.is_file():
            own = json.loads(file.read_text(encoding="utf-8"))
            found.setdefault(row, []).append(
                {"stage": stage.name, "reference_seconds": _reference(stage, store), **own}
            )
    return found


def _trained(graph: Any) -> Iterator[tuple[str, Stage]]:
    """Yield row id and training stage, for any domain's graph."""
    for row, systems in getattr(graph, "systems", {}).items():
        # A domain of one's own may call anything by this name.
        for system in systems if isinstance(systems, Sequence) else ():
            if isinstance(getattr(system, "model", None), Stage):
                yield row, system.model
    runs = getattr(graph, "runs", ())
    if isinstance(runs, Mapping):
        for row, stages in runs.items():
            yield from ((row, stage) for stage in stages.values())
    else:
        yield from ((run.row.id, run.trained) for run in runs)


def _reference(stage: Stage, store: Store) -> float:
    cache = stage.inputs.get("reference")
    return 0.0 if cache is None else float(store.record(cache.address)["seconds"])
