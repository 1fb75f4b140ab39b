"""The cost of a row's training runs, found through any domain's graph."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from harness.domains.common.costs import training_costs
from harness.domains.common.spec import RowSpec
from harness.graph.stages import Stage
from harness.graph.store import Store


def finished(store: Store, name: str, cost: dict[str, Any] | None = None, **inputs: Stage) -> Stage:
    """A stage that is in the store, which took two seconds."""
    function = "harness.domains.common.work.link:link_artefact"
    stage = Stage(name, function, {"name": name}, inputs)
    work = store.begin(stage.address, keep=False)
    if cost is not None:
        (work / "cost.json").write_text(json.dumps(cost))
    store.publish(stage.address, name, stage.record, 2.0)
    return stage


def test_models_of_systems_and_their_reference(store: Store) -> None:
    cache = finished(store, "reference cache seed 42")
    first = finished(store, "dpo seed 42", {"seconds": 5.0}, reference=cache)
    second = finished(store, "dpo seed 43", {"seconds": 7.0})
    old = finished(store, "simpo seed 42")
    systems = {
        "dpo": (SimpleNamespace(model=first), SimpleNamespace(model=second)),
        # Made before training recorded its cost; and a starting model, which is not trained.
        "simpo": (SimpleNamespace(model=old),),
        "base": (SimpleNamespace(model=None),),
    }
    assert training_costs(SimpleNamespace(systems=systems), store) == {
        "dpo": [
            {"stage": "dpo seed 42", "reference_seconds": 2.0, "seconds": 5.0},
            {"stage": "dpo seed 43", "reference_seconds": 0.0, "seconds": 7.0},
        ]
    }


def test_runs_of_a_sweep_and_of_a_figure(store: Store) -> None:
    row = RowSpec("dpo", "dpo", "DPO")
    stages = [finished(store, f"dpo β {beta}", {"seconds": beta}) for beta in (0.1, 0.2)]
    sweep = SimpleNamespace(runs=tuple(SimpleNamespace(row=row, trained=one) for one in stages))
    figure = SimpleNamespace(runs={"dpo": dict(enumerate(stages))})
    for graph in (sweep, figure):
        assert [own["seconds"] for own in training_costs(graph, store)["dpo"]] == [0.1, 0.2]
    assert training_costs(SimpleNamespace(), store) == {}
