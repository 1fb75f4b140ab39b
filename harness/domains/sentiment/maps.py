"""Figures 1, 4 and 9: token rewards and token KL of one text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.domains.common.spec import Experiment
from harness.domains.sentiment.notes import data_facts
from harness.domains.sentiment.pipeline import Graph
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.store import Store
from harness.render.notes import provenance_note


def maps_json(
    spec: Experiment,
    profile: SentimentProfile,
    graph: Graph,
    store: Store,
    labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Put a heat map's JSON together from its artefacts.

    Args:
        spec: what the figure is.
        profile: all values.
        graph: its stages, all of them in the store.
        store: where they are.
        labels: method → how the figure calls it, in the order shown.
        provenance: how the run was made.

    Returns:
        What figure1.json holds: `maps`, a document of token maps; `pair_id`, whose text it is.
    """
    assert graph.maps is not None
    found = store.read_json(graph.maps, "maps.json")
    data = store.read_json(graph.pairs, "report.json")
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        "methods": dict(labels),
        "beta": profile.sweep.map_beta,
        "pair_id": found.pop("pair_id"),
        "maps": found,
        "provenance": {**provenance, "data": data},
    }
    return {**result, "notes": [provenance_note(result["provenance"], *data_facts(data))]}
