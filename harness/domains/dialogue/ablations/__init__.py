"""Ablations of the mask (Tables 3, 4, 5 and l1), on Table 1's chains and stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.request import RunRequest
from harness.domains.common.domain import Domain
from harness.domains.common.finished import FinishedRun
from harness.domains.common.paper import paper_numbers
from harness.domains.common.samples import SampleSet
from harness.domains.common.spec import Experiment, RowSpec, TableSpec
from harness.domains.dialogue import caps_on_real_rows, user_benchmarks
from harness.domains.dialogue.ablations.profile import PROFILES, AblationProfile
from harness.domains.dialogue.pipeline import Graph, build_graph
from harness.graph.stages import Stage
from sparsepo.errors import UserError


class Ablations(Domain[AblationProfile, Graph]):
    """Tables 3, 4, 5 and l1."""

    profiles = PROFILES

    def tiny_values_for_real_data(
        self, profile: AblationProfile, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return caps on real rows, as Table 1 has them."""
        return caps_on_real_rows(profile, request)

    def build(
        self,
        experiment: Experiment,
        profile: AblationProfile,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Return the graph of stages that a table needs; nothing is run.

        Raises:
            UserError: no pairs are left to measure masks on, the paper's numbers cannot be read, or
                for the reasons of `build_graph`.
        """
        if profile.masks.pairs < 1:
            raise UserError(f"masks.pairs must be at least 1, not {profile.masks.pairs}.")
        if isinstance(experiment, TableSpec) and experiment.paper_setting is not None:
            paper_numbers(experiment.id)  # a damaged file is found before anything is trained
        return build_graph(profile, rows, plugins, user_benchmarks(request.assignments))

    def result(self, run: FinishedRun[AblationProfile, Graph]) -> dict[str, Any]:
        """Compute a table's JSON; see `dialogue.results`."""
        from harness.domains.dialogue.results import table_json

        return table_json(run)

    def sample_stages(self, graph: Graph) -> Sequence[Stage]:
        """Return the token maps of the first chain's responses."""
        from harness.domains.dialogue.samples import dialogue_map_stages

        return dialogue_map_stages(graph)

    def samples(self, run: FinishedRun[AblationProfile, Graph]) -> SampleSet | None:
        """Return the responses that were judged; see `dialogue.samples`."""
        from harness.domains.dialogue.samples import dialogue_samples

        return dialogue_samples(run)

    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the table in every format, and its picture."""
        from harness.domains.dialogue.render.ablation import ablation_png
        from harness.render.table import table_files

        return {**table_files(result), f"{result['id']}.png": ablation_png(result)}

    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print the table."""
        from harness.render.table import print_table

        print_table(result, console)


DOMAIN = Ablations()
