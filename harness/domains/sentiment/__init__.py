"""Sentiment control: reward against KL, masks during training, and whether they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.domains.base import Domain
from harness.domains.sentiment.pipeline import Graph, Kind, build_graph
from harness.domains.sentiment.profile import PROFILES, TINY_REAL_BASE, SentimentProfile
from harness.experiments.spec import Experiment
from harness.profiles import WORLD
from harness.request import RunRequest, assigned_keys
from harness.store import Store

KINDS: Mapping[str, Kind] = {
    "figure2": "frontier",
    "figure3": "dynamics",
    "figure7": "dynamics",
}
"""What each figure shows."""


class Sentiment(Domain[SentimentProfile, Graph]):
    """Figures 2, 3 and 7."""

    profiles = PROFILES

    def settle(self, request: RunRequest) -> SentimentProfile:
        """Return the profile with the user's changes made.

        The tiny model grows with real text, unless the user says how large it is: see
        TINY_REAL_BASE.
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
        return build_graph(KINDS[experiment.id], profile, methods, plugins)

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
        from harness.domains.sentiment.dynamics import dynamics_json

        return dynamics_json(experiment, profile, graph, store, labels, provenance)

    def files(self, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the picture, and the table beside it."""
        from harness.render.table import table_files

        kind = KINDS[result["id"]]
        if kind == "frontier":
            from harness.render.frontier import frontier_files

            return {**table_files(result), **frontier_files(result)}
        from harness.render.dynamics import dynamics_files

        return {**table_files(result), **dynamics_files(result)}

    def show(self, result: Mapping[str, Any], console: Console) -> None:
        """Print the table beside the picture."""
        from harness.render.table import print_table

        print_table(result, console)


DOMAIN = Sentiment()
