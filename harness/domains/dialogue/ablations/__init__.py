"""Ablations of the mask (Tables 3, 4, 5 and l1), on Table 1's chains and stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.request import RunRequest
from harness.domains.common.domain import Domain
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.dialogue import caps_on_real_rows, user_benchmarks
from harness.domains.dialogue.ablations.profile import PROFILES, AblationProfile
from harness.domains.dialogue.pipeline import Graph, build_graph


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
        """Return the graph of stages that a table needs; nothing is run."""
        return build_graph(profile, rows, plugins, user_benchmarks(request.assignments))

    def result(self, run: FinishedRun[AblationProfile, Graph]) -> dict[str, Any]:
        """Compute a table's JSON; see `dialogue.results`."""
        from harness.domains.dialogue.results import table_json

        return table_json(run)

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
