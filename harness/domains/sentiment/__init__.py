"""Sentiment control: reward against KL, masks during training, and checks beyond the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.assign import assigned_keys
from harness.config.profiles import WORLD
from harness.config.request import RunRequest
from harness.domains.common.domain import Domain
from harness.domains.common.dynamics import masks_variant
from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import SampleSet
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.sentiment.experiments import (
    FrontierFigure,
    NoiseTable,
    OnPolicyTable,
    TokenMapFigure,
    TransferTable,
)
from harness.domains.sentiment.pipeline import Graph, build_graph
from harness.domains.sentiment.profile import (
    PROFILES,
    TINY_REAL_BASE,
    TINY_REAL_LEARNING_RATE,
    TINY_REAL_PROMPT,
    SentimentProfile,
)
from harness.domains.sentiment.sweep import with_swept_rows


class Sentiment(Domain[SentimentProfile, Graph]):
    """Figures 1, 2, 3, 4, 7 and 9, and the tables beyond the paper."""

    profiles = PROFILES

    def tiny_values_for_real_data(
        self, profile: SentimentProfile, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return values for a larger model that learns more slowly; see TINY_REAL_*."""
        if profile.data.reviews == WORLD and profile.data.pairs is None:
            return {}
        own_context = "base.context" in assigned_keys(request.assignments)
        context = profile.base.context if own_context else TINY_REAL_BASE["context"]
        return {
            **{f"base.{name}": value for name, value in TINY_REAL_BASE.items()},
            "po.max_length": context,
            "po.learning_rate": TINY_REAL_LEARNING_RATE,
            "po.max_prompt_length": TINY_REAL_PROMPT,
        }

    def variant(
        self, experiment: Experiment, profile: SentimentProfile, request: RunRequest
    ) -> Experiment:
        """Return Figures 3 and 7 with the masks of `dynamics.masks`; DPO at each β of the sweep."""
        if isinstance(experiment, OnPolicyTable):
            experiment = with_swept_rows(experiment, profile)
        return masks_variant(experiment, profile.dynamics, request)

    def build(
        self,
        experiment: Experiment,
        profile: SentimentProfile,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Return the graph of stages that an experiment needs; nothing is run."""
        return build_graph(experiment, profile, rows, plugins)

    def result(self, run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
        """Compute a figure's JSON; see the modules of this folder."""
        if isinstance(run.experiment, FrontierFigure):
            from harness.domains.sentiment.frontier import frontier_json

            return frontier_json(run)
        if isinstance(run.experiment, TokenMapFigure):
            from harness.domains.sentiment.maps import maps_json

            return maps_json(run)
        if isinstance(run.experiment, NoiseTable):
            from harness.domains.sentiment.noise import noise_json

            return noise_json(run)
        if isinstance(run.experiment, TransferTable):
            from harness.domains.sentiment.transfer import transfer_json

            return transfer_json(run)
        if isinstance(run.experiment, OnPolicyTable):
            from harness.domains.sentiment.on_policy import on_policy_json

            return on_policy_json(run)
        from harness.domains.sentiment.dynamics import dynamics_json

        return dynamics_json(run)

    def samples(self, run: FinishedRun[SentimentProfile, Graph]) -> SampleSet | None:
        """Return the responses at the end of training, or token maps; see `sentiment.samples`."""
        from harness.domains.sentiment.samples import sentiment_samples

        return sentiment_samples(run)

    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the picture and its table."""
        if isinstance(experiment, TokenMapFigure):
            from harness.domains.sentiment.render.token_maps import token_map_files

            return token_map_files(result, experiment.quantities, experiment.responses)
        from harness.render.table import table_files

        if isinstance(experiment, FrontierFigure):
            from harness.domains.sentiment.render.frontier import frontier_files

            return {**table_files(result), **frontier_files(result)}
        if isinstance(experiment, NoiseTable):
            from harness.domains.sentiment.render.noise import noise_files

            return {**table_files(result), **noise_files(result)}
        if isinstance(experiment, OnPolicyTable):
            from harness.domains.sentiment.render.on_policy import on_policy_files

            return {**table_files(result), **on_policy_files(result)}
        if isinstance(experiment, TransferTable):
            return dict(table_files(result))
        from harness.render.dynamics import dynamics_files

        if "ranking" not in result:
            return dynamics_files(result)
        from harness.domains.sentiment.render.ranking import ranking_files

        return {**table_files(result), **dynamics_files(result), **ranking_files(result)}

    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print the table of the picture, or its notes where it has none."""
        from harness.render.table import print_notes, print_table

        if "rows" in result:
            print_table(result, console)
            return
        if "heading" in result:
            console.print(result["heading"], markup=False)
        print_notes(result, console)


DOMAIN = Sentiment()
