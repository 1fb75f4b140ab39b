"""Summarization: metrics of sampled summaries against the temperature (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.assign import assigned_keys
from harness.config.profiles import WORLD
from harness.config.request import RunRequest
from harness.domains.common.domain import Domain
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.summarization.pipeline import Graph, build_graph
from harness.domains.summarization.profile import (
    PROFILES,
    TINY_REAL_BASE,
    TINY_REAL_PROMPT,
    TINY_REAL_TOKENS,
    SummarizationProfile,
)


class Summarization(Domain[SummarizationProfile, Graph]):
    """Figure 5."""

    profiles = PROFILES

    def tiny_values_for_real_data(
        self, profile: SummarizationProfile, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return values for a larger model with a longer context; see TINY_REAL_*."""
        if profile.data.tldr == WORLD:
            return {}
        own_context = "base.context" in assigned_keys(request.assignments)
        context = profile.base.context if own_context else TINY_REAL_BASE["context"]
        return {
            **{f"base.{name}": value for name, value in TINY_REAL_BASE.items()},
            "sampling.new_tokens": TINY_REAL_TOKENS,
            **{
                f"{training}.{name}": value
                for training in ("sft", "po")
                for name, value in (
                    ("max_length", context),
                    ("max_prompt_length", TINY_REAL_PROMPT),
                    ("batch_size", 16),
                    ("device_batch_size", 8),
                )
            },
        }

    def build(
        self,
        experiment: Experiment,
        profile: SummarizationProfile,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> Graph:
        """Return the graph of stages that the figure needs; nothing is run."""
        return build_graph(profile, rows, plugins)

    def result(self, run: FinishedRun[SummarizationProfile, Graph]) -> dict[str, Any]:
        """Compute the figure's JSON; see harness.domains.summarization.results."""
        from harness.domains.summarization.results import figure_json

        return figure_json(run)

    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the figure, and its tables in every format."""
        from harness.domains.summarization.render.temperature import temperature_files
        from harness.render.table import table_files

        return {**table_files(result), **temperature_files(result)}

    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print the tables of the figure."""
        from harness.render.table import print_table

        print_table(result, console)


DOMAIN = Summarization()
