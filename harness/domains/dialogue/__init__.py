"""Helpful and harmless dialogue: what alignment costs on a leaderboard (Table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.profiles import WORLD
from harness.config.request import RunRequest, assigned_keys
from harness.domains.common.domain import Domain
from harness.domains.common.spec import Experiment, TableSpec
from harness.domains.dialogue.pipeline import BENCHMARKS, Graph, build_graph
from harness.domains.dialogue.profile import (
    PROFILES,
    TINY_REAL_LIMITS,
    TINY_REAL_TEST_PAIRS,
    TINY_REAL_TRAIN_PAIRS,
    DialogueProfile,
)
from harness.graph.store import Store


class Dialogue(Domain[DialogueProfile, Graph]):
    """Table 1."""

    profiles = PROFILES

    def settle(self, request: RunRequest) -> DialogueProfile:
        """Return the profile with the user's changes made.

        The tiny profile caps real rows, unless the user sets these caps: see TINY_REAL_*.
        """
        profile = super().settle(request)
        if profile.name != "tiny":
            return profile
        keys = assigned_keys(request.assignments)
        data, evaluation = profile.data, profile.evaluation
        if data.hh_rlhf != WORLD:
            if "data.train_pairs" not in keys:
                data = replace(data, train_pairs=TINY_REAL_TRAIN_PAIRS)
            if "data.test_pairs" not in keys:
                data = replace(data, test_pairs=TINY_REAL_TEST_PAIRS)
        capped = any(key.startswith("evaluation.limit") for key in keys)
        if user_benchmarks(request.assignments) and not capped:
            evaluation = replace(evaluation, limits=TINY_REAL_LIMITS)
        return replace(profile, data=data, evaluation=evaluation)

    def build(
        self,
        experiment: Experiment,
        profile: DialogueProfile,
        methods: Sequence[str],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Describe what Table 1 needs; nothing is run."""
        return build_graph(profile, methods, plugins, user_benchmarks(request.assignments))

    def result(
        self,
        experiment: Experiment,
        profile: DialogueProfile,
        graph: Graph,
        store: Store,
        labels: Mapping[str, str],
        provenance: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Compute Table 1's JSON; see harness.domains.dialogue.results."""
        from harness.domains.dialogue.results import table_json

        assert isinstance(experiment, TableSpec)
        return table_json(experiment, profile, graph, store, labels, provenance)

    def files(self, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the table in every form, and its picture."""
        from harness.domains.dialogue.render.trade_off import trade_off_png
        from harness.render.table import table_files

        return {**table_files(result), f"{result['id']}.png": trade_off_png(result)}

    def show(self, result: Mapping[str, Any], console: Console) -> None:
        """Print the table."""
        from harness.render.table import print_table

        print_table(result, console)


def user_benchmarks(assignments: Sequence[str]) -> list[str]:
    """Return the benchmarks whose rows the user named."""
    keys = assigned_keys(assignments)
    return [name for name in BENCHMARKS if f"data.{name}" in keys]


DOMAIN = Dialogue()
