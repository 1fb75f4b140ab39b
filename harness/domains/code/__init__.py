"""Code generation: pass@k after preference optimization (Table 2), masks and KL (Figures 6, 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.profiles import WORLD
from harness.config.request import RunRequest, assigned_keys
from harness.domains.code.pipeline import Graph, build_figure, build_table
from harness.domains.code.profile import PROFILES, TINY_REAL_LIMIT, CodeProfile
from harness.domains.common.domain import Domain
from harness.domains.common.spec import Experiment, FigureSpec, TableSpec
from harness.graph.store import Store
from sparsepo.errors import UserError

PERMISSION = (
    "this runs programs that a model wrote, isolated from your files and network: add "
    "--allow-code-execution if you agree"
)


class Code(Domain[CodeProfile, Graph]):
    """Table 2, Figures 6 and 8."""

    profiles = PROFILES
    runs_code = True

    def settle(self, request: RunRequest) -> CodeProfile:
        """Return the profile with the user's changes made.

        The tiny profile caps real problems, unless the user sets the cap: see TINY_REAL_LIMIT.
        """
        profile = super().settle(request)
        real = {profile.data.humaneval, profile.data.mbpp} != {WORLD}
        if profile.name != "tiny" or not real:
            return profile
        if "sampling.limit" in assigned_keys(request.assignments):
            return profile
        return replace(profile, sampling=replace(profile.sampling, limit=TINY_REAL_LIMIT))

    def build(
        self,
        experiment: Experiment,
        profile: CodeProfile,
        methods: Sequence[str],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Describe what an experiment needs; nothing is run.

        Raises:
            UserError: without permission to run model-written programs, where any but the
                embedded world's model would write them; if no isolation works here.
        """
        if not (request.allow_code_execution or profile.embedded):
            raise UserError(PERMISSION)
        _require_isolation()
        if isinstance(experiment, FigureSpec):
            method = experiment.rows[0].method
            if list(methods) != [method] and request.methods is not None:
                raise UserError(f"{experiment.id} shows {method} alone: leave --methods out")
            if profile.seeds != self.get_profile(profile.name).seeds:
                raise UserError(
                    f"{experiment.id} shows the runs that choose β, of one seed: leave --seeds out"
                )
            return build_figure(profile, method)
        return build_table(profile, methods, plugins)

    def result(
        self,
        experiment: Experiment,
        profile: CodeProfile,
        graph: Graph,
        store: Store,
        labels: Mapping[str, str],
        provenance: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Compute the JSON; see harness.domains.code.results."""
        from harness.domains.code.results import figure_json, table_json

        if isinstance(experiment, FigureSpec):
            return figure_json(experiment, profile, graph, store, provenance)
        assert isinstance(experiment, TableSpec)
        return table_json(experiment, profile, graph, store, labels, provenance)

    def files(self, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the table in every form, or the figure as PNG and PDF."""
        if "panels" in result:
            from harness.render.dynamics import dynamics_files

            return dynamics_files(result)
        from harness.render.table import table_files

        return table_files(result)

    def show(self, result: Mapping[str, Any], console: Console) -> None:
        """Print the table; of a figure its heading."""
        if "panels" in result:
            console.print(result["heading"], markup=False)
            return
        from harness.render.table import print_table

        print_table(result, console)


def _require_isolation() -> None:
    """Find out before any work whether programs can be run at all."""
    from tasks.sandbox import choose_tier

    choose_tier(None)


DOMAIN = Code()
