"""Figures 1, 4 and 9: token rewards and token KL of one text."""

from __future__ import annotations

from typing import Any

from harness.domains.common.finished import FinishedRun
from harness.domains.sentiment.notes import data_facts
from harness.domains.sentiment.pipeline import Graph
from harness.domains.sentiment.profile import SentimentProfile
from harness.render.notes import provenance_note


def maps_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return the content of figure1.json: `maps`, a document of token maps, and their `pair_id`."""
    spec, graph = run.experiment, run.graph
    assert graph.maps is not None
    found = run.store.read_json(graph.maps, "maps.json")
    data = run.store.read_json(graph.pairs[0], "report.json")
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": run.profile.name,
        "methods": {row.id: row.label for row in run.rows},
        "beta": run.profile.sweep.map_beta,
        "pair_id": found.pop("pair_id"),
        "maps": found,
        "provenance": {**run.provenance, "data": data},
    }
    return {**result, "notes": [provenance_note(result["provenance"], *data_facts(data))]}
