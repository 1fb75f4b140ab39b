"""Figures 1, 4 and 9: token rewards and token KL of one text."""

from __future__ import annotations

from typing import Any

from harness.domains.common.finished import FinishedRun
from harness.domains.sentiment.experiments import TokenMapFigure
from harness.domains.sentiment.notes import map_notes
from harness.domains.sentiment.pipeline import Graph
from harness.domains.sentiment.profile import SentimentProfile
from harness.render.fit import fit_notes


def maps_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return the content of figure1.json: `maps`, a document of token maps, and their `pair_id`.

    The maps have both responses of the pair; `responses` and `quantities` are what is drawn.
    """
    spec, graph = run.experiment, run.graph
    assert isinstance(spec, TokenMapFigure)
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
        "responses": list(spec.responses),
        "quantities": list(spec.quantities),
        "maps": found,
        "provenance": {**run.provenance, "data": data},
    }
    return {**result, **fit_notes(map_notes(result))}
