"""Helpful and harmless dialogue: what alignment costs on a leaderboard (Table 1), and win rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.assign import assigned_keys
from harness.config.request import RunRequest
from harness.domains.common.domain import Domain
from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import SampleSet
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.common.winrate.spec import judge_of_real_rows
from harness.domains.common.winrate.stages import WinrateGraph
from harness.domains.dialogue.pipeline import BENCHMARKS, Graph, build_graph
from harness.domains.dialogue.profile import (
    PROFILES,
    TINY_REAL_LIMITS,
    TINY_REAL_TEST_PAIRS,
    TINY_REAL_TRAIN_PAIRS,
    AlignmentProfile,
    DialogueProfile,
)
from harness.graph.stages import Stage

TINY = "a GPT-NeoX trained from scratch on an embedded world of dialogues with rules"


class Dialogue(Domain[DialogueProfile, Graph | WinrateGraph]):
    """Table 1 and win rates."""

    profiles = PROFILES

    def tiny_values_for_real_data(
        self, profile: DialogueProfile, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return caps on real rows, see TINY_REAL_*, and the judge of real pairs."""
        judge = judge_of_real_rows(request) if profile.pair_source.real else {}
        return {**caps_on_real_rows(profile, request), **judge}

    def build(
        self,
        experiment: Experiment,
        profile: DialogueProfile,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph | WinrateGraph:
        """Return the graph of stages that a table needs; nothing is run."""
        if experiment.judged:
            from harness.domains.dialogue import winrate

            return winrate.build_graph(profile, rows, plugins, request)
        return build_graph(profile, rows, plugins, user_benchmarks(request.assignments))

    def result(self, run: FinishedRun[DialogueProfile, Graph | WinrateGraph]) -> dict[str, Any]:
        """Compute a table's JSON; see `dialogue.results` and `common.winrate.results`."""
        from harness.domains.common.winrate.results import winrate_json
        from harness.domains.dialogue.results import table_json

        if isinstance(run.graph, WinrateGraph):
            return winrate_json(run.of(run.graph), TINY)
        return table_json(run.of(run.graph))

    def sample_stages(self, graph: Graph | WinrateGraph) -> Sequence[Stage]:
        """Return the token maps of the first chain's responses."""
        from harness.domains.common.winrate.samples import winrate_map_stages
        from harness.domains.dialogue.samples import dialogue_map_stages

        if isinstance(graph, WinrateGraph):
            return winrate_map_stages(graph)
        return dialogue_map_stages(graph)

    def samples(self, run: FinishedRun[DialogueProfile, Graph | WinrateGraph]) -> SampleSet | None:
        """Return the responses that were judged; see `dialogue.samples`."""
        from harness.domains.common.winrate.samples import winrate_samples
        from harness.domains.dialogue.samples import dialogue_samples

        if isinstance(run.graph, WinrateGraph):
            return winrate_samples(run.of(run.graph))
        return dialogue_samples(run.of(run.graph))

    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the table in every format, and its picture."""
        from harness.domains.dialogue.render.trade_off import trade_off_png
        from harness.render.table import table_files

        if experiment.judged:
            return table_files(result)
        return {**table_files(result), f"{result['id']}.png": trade_off_png(result)}

    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print the table."""
        from harness.render.table import print_table

        print_table(result, console)


def caps_on_real_rows(profile: AlignmentProfile, request: RunRequest) -> dict[str, Any]:
    """Return the tiny profile's caps on real rows, by dotted name; see TINY_REAL_*."""
    values: dict[str, Any] = {}
    if profile.pair_source.real:
        values["data.train_pairs"] = TINY_REAL_TRAIN_PAIRS
        values["data.test_pairs"] = TINY_REAL_TEST_PAIRS
    # A user's cap for all benchmarks replaces the caps of the single ones.
    capped = "evaluation.limit" in assigned_keys(request.assignments)
    if user_benchmarks(request.assignments) and not capped:
        values["evaluation.limits"] = TINY_REAL_LIMITS
    return values


def user_benchmarks(assignments: Sequence[str]) -> list[str]:
    """Return the benchmarks whose data the user set."""
    keys = assigned_keys(assignments)
    return [name for name in BENCHMARKS if f"data.{name}" in keys]


DOMAIN = Dialogue()
