"""Code generation: pass@k after preference optimization (Table 2), masks and KL (Figures 6, 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.profiles import WORLD
from harness.config.request import RunRequest
from harness.domains.code.experiments import LAPTOP_TABLE2, TABLE2
from harness.domains.code.pipeline import Graph, build_figure, build_table
from harness.domains.code.profile import PROFILES, TINY_REAL_LIMIT, CodeProfile
from harness.domains.common.domain import Domain
from harness.domains.common.dynamics import masks_variant
from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import SampleSet
from harness.domains.common.spec import DynamicsSpec, Experiment, RowSpec
from sparsepo.errors import UserError

PERMISSION = (
    "This runs model-generated programs, sandboxed away from your files and network; allow it "
    "with --allow-code-execution."
)


class Code(Domain[CodeProfile, Graph]):
    """Table 2, Figures 6 and 8."""

    profiles = PROFILES
    runs_code = True

    def tiny_values_for_real_data(
        self, profile: CodeProfile, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return a cap on real problems; see TINY_REAL_LIMIT."""
        real = {profile.data.humaneval, profile.data.mbpp} != {WORLD}
        return {"sampling.limit": TINY_REAL_LIMIT} if real else {}

    def variant(
        self, experiment: Experiment, profile: CodeProfile, request: RunRequest
    ) -> Experiment:
        """Return Figures 6 and 8 with the masks of `dynamics.masks`, Table 2 with fewer rows."""
        if profile.name == "laptop" and experiment == TABLE2:
            return LAPTOP_TABLE2
        return masks_variant(experiment, profile.dynamics, request)

    def build(
        self,
        experiment: Experiment,
        profile: CodeProfile,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Return the graph of stages that an experiment needs; nothing is run.

        Raises:
            UserError: model-generated programs of another model than the embedded world's would run
                without permission, or no isolation works on this machine.
        """
        if not (request.allow_code_execution or profile.embedded):
            raise UserError(PERMISSION)
        _require_isolation()
        if isinstance(experiment, DynamicsSpec):
            (row,) = experiment.rows
            if list(rows) != [row] and request.methods is not None:
                raise UserError(
                    f"{experiment.id} shows only {row.method}; leave --methods out, or use --set "
                    "dynamics.masks=common."
                )
            if profile.seeds != self.get_profile(profile.name).seeds:
                raise UserError(
                    f"{experiment.id} shows the runs that choose β, which use one seed; leave "
                    "--seeds out."
                )
            return build_figure(profile, row)
        return build_table(profile, rows, plugins)

    def result(self, run: FinishedRun[CodeProfile, Graph]) -> dict[str, Any]:
        """Compute the JSON; see harness.domains.code.results."""
        from harness.domains.code.results import figure_json, table_json

        return (figure_json if isinstance(run.experiment, DynamicsSpec) else table_json)(run)

    def samples(self, run: FinishedRun[CodeProfile, Graph]) -> SampleSet | None:
        """Return a program of each row for each problem; see `code.samples`."""
        from harness.domains.code.samples import code_samples

        return code_samples(run)

    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the table in every format, or the figure as PNG and PDF."""
        if isinstance(experiment, DynamicsSpec):
            from harness.render.dynamics import dynamics_files

            return dynamics_files(result)
        from harness.render.table import table_files

        return table_files(result)

    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print the table, or the heading and notes of a figure."""
        from harness.render.table import print_notes, print_table

        if isinstance(experiment, DynamicsSpec):
            console.print(result["heading"], markup=False)
            print_notes(result, console)
            return

        print_table(result, console)


def _require_isolation() -> None:
    """Check before any work that programs can be run."""
    from tasks.sandbox import choose_tier

    choose_tier(None)


DOMAIN = Code()
