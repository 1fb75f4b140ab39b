"""Sentiment control: reward against KL, masks during training, and whether they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.profiles import WORLD
from harness.config.request import RunRequest, assigned_keys
from harness.domains.common.domain import Domain
from harness.domains.common.spec import Experiment
from harness.domains.sentiment.pipeline import Graph, Kind, build_graph
from harness.domains.sentiment.profile import (
    PROFILES,
    TINY_REAL_BASE,
    TINY_REAL_LEARNING_RATE,
    TINY_REAL_PROMPT,
    SentimentProfile,
)
from harness.graph.store import Store
from sparsepo.registry import available_methods

KINDS: Mapping[str, Kind] = {
    "figure2": "frontier",
    "figure3": "dynamics",
    "figure7": "dynamics",
    "figure1": "maps",
    "figure4": "maps",
    "figure9": "maps",
}
"""What each figure shows."""

MAP_PAIRS = {"figure1": 0, "figure4": 0, "figure9": 1}
"""Place of the held-out pair whose tokens a heat map shows [ours]."""


class Sentiment(Domain[SentimentProfile, Graph]):
    """Figures 1, 2, 3, 4, 7 and 9."""

    profiles = PROFILES

    def settle(self, request: RunRequest) -> SentimentProfile:
        """Return the profile with the user's changes made.

        On real text the tiny model is larger and learns more slowly, unless the user says
        otherwise: see TINY_REAL_*.
        """
        profile = super().settle(request)
        real = profile.data.reviews != WORLD or profile.data.pairs is not None
        if profile.name != "tiny" or not real:
            return profile
        keys = assigned_keys(request.assignments)
        base: Any = profile.base
        for name, value in TINY_REAL_BASE.items():
            if f"base.{name}" not in keys:
                base = replace(base, **{name: value})
        po = profile.po
        if "po.max_length" not in keys:
            po = replace(po, max_length=base.context)
        if "po.learning_rate" not in keys:
            po = replace(po, learning_rate=TINY_REAL_LEARNING_RATE)
        if "po.max_prompt_length" not in keys:
            po = replace(po, max_prompt_length=TINY_REAL_PROMPT)
        return replace(profile, base=base, po=po)

    def build(
        self,
        experiment: Experiment,
        profile: SentimentProfile,
        methods: Sequence[str],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Describe what a figure needs; nothing is run."""
        known = available_methods()
        labels = {row.method: row.label for row in experiment.rows}
        named = {method: labels.get(method, known[method].title) for method in methods}
        pair = MAP_PAIRS.get(experiment.id, 0)
        return build_graph(KINDS[experiment.id], profile, named, plugins, pair)

    def result(
        self,
        experiment: Experiment,
        profile: SentimentProfile,
        graph: Graph,
        store: Store,
        labels: Mapping[str, str],
        provenance: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Compute a figure's JSON; see the modules of this folder."""
        if graph.kind == "frontier":
            from harness.domains.sentiment.frontier import frontier_json

            return frontier_json(experiment, profile, graph, store, labels, provenance)
        if graph.kind == "maps":
            from harness.domains.sentiment.maps import maps_json

            return maps_json(experiment, profile, graph, store, labels, provenance)
        from harness.domains.sentiment.dynamics import dynamics_json

        return dynamics_json(experiment, profile, graph, store, labels, provenance)

    def files(self, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the picture, and the table beside it."""
        kind = KINDS[result["id"]]
        if kind == "maps":
            from harness.domains.sentiment.render.token_maps import token_map_files

            return token_map_files(result)
        from harness.render.table import table_files

        if kind == "frontier":
            from harness.domains.sentiment.render.frontier import frontier_files

            return {**table_files(result), **frontier_files(result)}
        from harness.domains.sentiment.render.ranking import ranking_files
        from harness.render.dynamics import dynamics_files

        return {**table_files(result), **dynamics_files(result), **ranking_files(result)}

    def show(self, result: Mapping[str, Any], console: Console) -> None:
        """Print the table beside the picture."""
        if KINDS[result["id"]] == "maps":
            for note in result["notes"]:
                console.print(note, style="dim", markup=False, highlight=False)
            return
        from harness.render.table import print_table

        print_table(result, console)


DOMAIN = Sentiment()
