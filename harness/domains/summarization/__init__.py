"""Summarization: metrics of summaries against the temperature (Figure 5), and win rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config.assign import assigned_keys
from harness.config.profiles import WORLD
from harness.config.request import RunRequest
from harness.domains.common.domain import Domain
from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import SampleSet
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.common.winrate.spec import judge_of_real_rows
from harness.domains.common.winrate.stages import WinrateGraph
from harness.domains.summarization.pipeline import Graph, build_graph
from harness.domains.summarization.profile import (
    PROFILES,
    TINY_REAL_BASE,
    TINY_REAL_PROMPT,
    TINY_REAL_PROMPTS,
    TINY_REAL_TOKENS,
    SummarizationProfile,
)
from harness.graph.stages import Stage

TINY = "a GPT-NeoX trained from scratch on an embedded world of posts"
TINY_REAL = "a GPT-NeoX trained from scratch on the training pairs alone"


class Summarization(Domain[SummarizationProfile, Graph | WinrateGraph]):
    """Figure 5 and win rates."""

    profiles = PROFILES

    def tiny_values_for_real_data(
        self, profile: SummarizationProfile, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return values for real posts, which are longer; see TINY_REAL_*."""
        if profile.data.tldr == WORLD:
            return {}
        own_context = "base.context" in assigned_keys(request.assignments)
        context = int(profile.base.context if own_context else TINY_REAL_BASE["context"])
        return {
            **{f"base.{name}": value for name, value in TINY_REAL_BASE.items()},
            **({} if request.seeds is not None else {"seeds": 1}),
            **judge_of_real_rows(request),
            "sampling.new_tokens": TINY_REAL_TOKENS,
            "sampling.prompts": TINY_REAL_PROMPTS,
            **{
                f"{training}.{name}": value
                for training in ("sft", "po")
                for name, value in (
                    ("max_length", context),
                    ("max_prompt_length", min(TINY_REAL_PROMPT, context - TINY_REAL_TOKENS)),
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
    ) -> Graph | WinrateGraph:
        """Return the graph of stages that an experiment needs; nothing is run."""
        if experiment.judged:
            from harness.domains.summarization import winrate

            return winrate.build_graph(profile, rows, plugins, request)
        return build_graph(profile, rows, plugins)

    def result(
        self, run: FinishedRun[SummarizationProfile, Graph | WinrateGraph]
    ) -> dict[str, Any]:
        """Compute the JSON; see `summarization.results` and `common.winrate.results`."""
        from harness.domains.common.winrate.results import winrate_json
        from harness.domains.summarization.results import figure_json

        if isinstance(run.graph, WinrateGraph):
            real = run.profile.data.tldr != WORLD
            return winrate_json(run.of(run.graph), TINY_REAL if real else TINY)
        return figure_json(run.of(run.graph))

    def sample_stages(self, graph: Graph | WinrateGraph) -> Sequence[Stage]:
        """Return the token maps of the first chain's responses; of the figure none."""
        from harness.domains.common.winrate.samples import winrate_map_stages

        return winrate_map_stages(graph) if isinstance(graph, WinrateGraph) else ()

    def samples(
        self, run: FinishedRun[SummarizationProfile, Graph | WinrateGraph]
    ) -> SampleSet | None:
        """Return the summaries; see `summarization.samples` and `common.winrate.samples`."""
        from harness.domains.common.winrate.samples import winrate_samples
        from harness.domains.summarization.samples import summarization_samples

        if isinstance(run.graph, WinrateGraph):
            return winrate_samples(run.of(run.graph))
        return summarization_samples(run.of(run.graph))

    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Return the figure, and tables in every format."""
        from harness.domains.summarization.render.temperature import temperature_files
        from harness.render.table import table_files

        if experiment.judged:
            return table_files(result)
        return {**table_files(result), **temperature_files(result)}

    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print the tables."""
        from harness.render.table import print_table

        print_table(result, console)


DOMAIN = Summarization()
