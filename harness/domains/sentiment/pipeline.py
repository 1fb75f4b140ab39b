"""The stages of the sentiment figures: reviews → model → pairs → one run per point of the sweep.

Each chain has its own; all figures share the model, the pairs, the reference's cache and the runs
that they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.chains import chains, first_chain
from harness.config.methods import METHOD_TABLE, method_code
from harness.domains.common.generation import generation_parts
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.common.stages import TRAINING, Start, train_stage
from harness.domains.common.tuning import Search
from harness.domains.sentiment.data import (
    flipped_pairs_stage,
    labels_stage,
    ready_pairs_stage,
    reviews_stage,
    sampled_pairs_stage,
    starting_point,
)
from harness.domains.sentiment.experiments import (
    SCORED,
    DynamicsFigure,
    OnPolicyRow,
    OnPolicyTable,
    TokenMapFigure,
    TransferRow,
    TransferTable,
    ranks_tokens,
)
from harness.domains.sentiment.measured import (
    diversity_stage,
    evaluation_values,
    points_stage,
    start_stage,
)
from harness.domains.sentiment.profile import SentimentProfile
from harness.domains.sentiment.rollout import rollout_stage
from harness.domains.sentiment.sources import MaskSources, knows_decisive_tokens
from harness.domains.sentiment.sweep import (
    check_values,
    flipped_shares,
    require_masks,
    rows_with_masks,
    settings_of,
)
from harness.domains.sentiment.tuned import search_at_one_beta, with_chosen
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.registry import method_class


@dataclass(frozen=True)
class Run:
    """One training run of the sweep, and what is measured on it."""

    row: RowSpec
    beta: float | None
    """None for SFT, which is the start itself."""
    gamma: float | None
    """SimPO's; None for the others."""
    seed: int
    """The chain's."""
    trained: Stage
    points: Stage | None
    """Reward and KL of its responses; None where no frontier is shown."""
    rankings: Stage | None
    flipped: float = 0.0
    """Share of the training pairs that are flipped."""
    diversity: Stage | None = None
    """How alike samples of a prompt are; None where that is not shown."""
    search: Search | None = None
    """The trials of a tuned row, which are those of all its runs in a chain."""


@dataclass(frozen=True)
class Graph:
    """All stages of a figure."""

    pairs: tuple[Stage, ...]
    """Preference pairs of each chain."""
    runs: tuple[Run, ...]
    """Row by row, setting by setting, chain by chain."""
    maps: Stage | None = None
    baselines: tuple[Stage, ...] = ()
    """Rankings of tokens by what needs no training, of each chain."""

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the figure can be drawn."""
        stages = [*self.pairs, *(run.trained for run in self.runs)]
        stages += [run.points for run in self.runs if run.points is not None]
        stages += [run.rankings for run in self.runs if run.rankings is not None]
        stages += [run.diversity for run in self.runs if run.diversity is not None]
        return [*stages, *self.baselines, *(() if self.maps is None else (self.maps,))]

    @property
    def searches(self) -> dict[str, list[Search]]:
        """Tuned row → its trials in each chain."""
        found: dict[str, dict[int, Search]] = {}
        for run in self.runs:
            if run.search is not None:
                found.setdefault(run.row.id, {})[run.seed] = run.search
        return {row: list(chains.values()) for row, chains in found.items()}

    def of(self, row: str) -> list[Run]:
        """Return the runs of a row, by its id."""
        return [run for run in self.runs if run.row.id == row]


def build_graph(
    experiment: Experiment,
    profile: SentimentProfile,
    rows: Sequence[RowSpec],
    plugins: Mapping[str, Path],
) -> Graph:
    """Describe what a figure needs.

    Args:
        experiment: the figure; its type says what is measured.
        profile: all values.
        rows: those to be shown.
        plugins: method → the file that it was loaded from with --plugin.

    Returns:
        The stages; nothing has been run.

    Raises:
        UserError: for a missing file, an unknown method, or a value that nothing uses.
    """
    check_values(experiment, profile)
    if isinstance(experiment, DynamicsFigure):
        require_masks(rows[0].method)
    if isinstance(experiment, TransferTable):
        rows = rows_with_masks(profile, rows)
    if isinstance(experiment, TokenMapFigure):
        built = [_Chain(experiment, first_chain(profile))]
    else:
        built = [_Chain(experiment, chain) for chain in chains(profile)]
    runs = tuple(
        chain.run(row, beta, gamma, flipped, plugins.get(row.method))
        for row in rows
        for beta, gamma in settings_of(experiment, profile, row)
        for flipped in flipped_shares(experiment, profile, row)
        for chain in built
    )
    maps = None
    if isinstance(experiment, TokenMapFigure):
        maps = _maps(profile, runs, built[0].pairs, built[0].start, experiment.pair)
    baselines = [chain.baselines() for chain in built]
    return Graph(
        tuple(chain.pairs for chain in built),
        runs,
        maps,
        tuple(stage for stage in baselines if stage is not None),
    )


class _Chain:
    """The stages that one chain's runs share, and the maker of its runs."""

    def __init__(self, experiment: Experiment, profile: SentimentProfile) -> None:
        self.profile = profile
        self._reviews = reviews = reviews_stage(profile)
        ready = ready_pairs_stage(profile)
        self.start = starting_point(profile, reviews, ready)
        self.pairs = (
            ready if ready is not None else sampled_pairs_stage(profile, reviews, self.start)
        )
        self.experiment = experiment
        # The evaluation at step 0 and its points, which all runs share.
        self._evaluated_start = start_stage(profile, self.pairs, self.start)
        self._start_points: Stage | None = None
        if isinstance(experiment, SCORED):
            evaluated = self._evaluated_start
            self._start_points = points_stage(profile, evaluated, self.pairs, self.start)
        self._searches: dict[str, Search] = {}
        self.labels: Stage | None = None
        if ranks_tokens(experiment) and (
            not isinstance(experiment, TransferTable) or knows_decisive_tokens(profile)
        ):
            self.labels = labels_stage(profile, self.pairs, self.start)
        self._caches: dict[float, dict[str, Stage]] = {}

    def run(
        self,
        row: RowSpec,
        beta: float | None,
        gamma: float | None,
        flipped: float,
        plugin: Path | None,
    ) -> Run:
        """Return one point of the sweep in this chain."""
        profile, start = self.profile, self.start
        if isinstance(row, OnPolicyRow):
            caches = self._caches.setdefault(0.0, {})
            trained = self._from_start(rollout_stage(profile, row, self.pairs, start, caches))
            return self._measured(Run(row, None, None, profile.seed, trained, None, None))

        def trained_as(row: RowSpec) -> Stage:
            if row.method == "sft":
                return self._evaluated_start
            stage = _trained(
                profile,
                row,
                beta,
                gamma,
                flipped_pairs_stage(profile, self.pairs, flipped),
                start,
                self._caches.setdefault(flipped, {}),
                plugin,
                f", {100 * flipped:g} % flipped" if flipped else "",
            )
            return self._from_start(stage)

        trained = trained_as(row)
        search = self._search(row, plugin) if row.tuned else None
        if search is not None:
            trained = with_chosen(trained, search)
        masks = None
        if isinstance(row, TransferRow) and row.given:
            own = trained_as(RowSpec(row.method, row.method, row.label))
            masks = MaskSources(profile, self.pairs, start).masks(row, own)
            trained = replace(trained, inputs={**trained.inputs, "masks": masks})
        ranked = self._ranked(row, trained, masks)
        return self._measured(
            Run(row, beta, gamma, profile.seed, trained, None, ranked, flipped, search=search)
        )

    def _from_start(self, stage: Stage) -> Stage:
        """Return a training stage that takes the evaluation at step 0 from the shared one."""
        return replace(stage, inputs={**stage.inputs, "start": self._evaluated_start})

    def _measured(self, run: Run) -> Run:
        """Return a run with the stages that measure its responses."""
        profile, start, trained = self.profile, self.start, run.trained
        points, diversity = self._start_points, None
        if points is not None and trained is not self._evaluated_start:
            # The prompts and held-out pairs are the same, whatever is flipped.
            points = points_stage(profile, trained, self.pairs, start, points)
        if isinstance(self.experiment, OnPolicyTable):
            diversity = diversity_stage(profile, run.row.method, trained, self.pairs, start)
        return replace(run, points=points, diversity=diversity)

    def _search(self, row: RowSpec, plugin: Path | None) -> Search:
        """Return the trials of a tuned row, once for all of its runs."""
        if row.id not in self._searches:
            self._searches[row.id] = search_at_one_beta(
                self.profile,
                row,
                self._reviews,
                self.pairs,
                self.start,
                self._caches.setdefault(0.0, {}),
                plugin,
            )
        return self._searches[row.id]

    def _ranked(self, row: RowSpec, trained: Stage, masks: Stage | None) -> Stage | None:
        of_masks = isinstance(self.experiment, TransferTable)
        if self.labels is None or (of_masks and not isinstance(row, TransferRow)):
            return None
        if masks is not None:
            inputs = {"masks": masks, "labels": self.labels}
            return _ranking(self.profile, "mask_rankings:rank_masks", masks.name, inputs)
        if not _ranks_tokens(row):
            return None
        inputs = {"run": trained, "labels": self.labels}
        return _ranking(self.profile, "rankings:rank_tokens", trained.name, inputs)

    def baselines(self) -> Stage | None:
        """Return the rankings by what needs no training; None where none are shown."""
        if self.labels is None or not isinstance(self.experiment, DynamicsFigure):
            return None
        shared = {"labels": self.labels}
        name = self.labels.name.replace("tokens that decide", "baselines")
        return _ranking(self.profile, "rankings:rank_baselines", name, shared)


def _trained(
    profile: SentimentProfile,
    row: RowSpec,
    beta: float | None,
    gamma: float | None,
    pairs: Stage,
    start: Start,
    caches: dict[str, Stage],
    plugin: Path | None,
    variant: str,
) -> Stage:
    method = row.method
    if "beta" not in getattr(method_class(method), "__dataclass_fields__", {}):
        raise UserError(
            f"Method '{method}' has no β, which these figures vary; leave it out with --methods."
        )
    pairs_of_tokens = profile.data.test_pairs if _ranks_tokens(row) else 0
    # A row with a β of its own is one point of its method's sweep.
    owner = method if "beta" in row.settings else row.id
    name = f"{owner} β {beta:g}" + ("" if gamma is None else f" γ {gamma:g}")
    stage = train_stage(
        profile,
        row,
        pairs,
        start,
        caches,
        plugin=plugin,
        overrides={"beta": beta, **({} if gamma is None else {"gamma": gamma})},
        name=f"{name} seed {profile.seed}",
        variant=variant,
    )
    return replace(
        stage,
        function="harness.domains.sentiment.work.train:train_and_evaluate",
        config={**stage.config, "evaluations": evaluation_values(profile, pairs_of_tokens)},
        options=generation_parts(profile).options,
        seconds_hint=8,
    )


def _ranks_tokens(row: RowSpec) -> bool:
    """Whether it is asked how well a run tells the tokens that decide: computed masks, and DPO."""
    if row.settings.get("mask_kind") == "given":
        return False
    return method_class(row.method).needs.mask != "none" or row.method == "dpo"


def _ranking(
    profile: SentimentProfile, function: str, name: str, inputs: Mapping[str, Stage]
) -> Stage:
    return Stage(
        f"ranking of tokens by {name}",
        f"harness.domains.sentiment.work.{function}",
        {"replicates": profile.statistics.replicates, "seed": profile.statistics.seed},
        inputs,
        libraries=("numpy", "scikit-learn"),
        seconds_hint=2,
    )


def _maps(
    profile: SentimentProfile,
    runs: Sequence[Run],
    pairs: Stage,
    start: Start,
    pair: int,
) -> Stage:
    methods = [run.row.method for run in runs]
    without = [method for method in methods if not method_class(method).needs.reference]
    if without:
        raise UserError(
            f"Method '{without[0]}' reads no reference and so has no token rewards to show; "
            "leave it out with --methods."
        )
    return Stage(
        "token maps",
        "harness.domains.sentiment.work.maps:map_tokens",
        {
            "labels": [run.row.label for run in runs],
            "pair": pair,
            "max_length": profile.po.max_length,
            "max_prompt_length": profile.po.max_prompt_length,
            "device": profile.device,
            "model": start.model_id,
        },
        {
            "pairs": pairs,
            **{f"run{index}": run.trained for index, run in enumerate(runs)},
            **start.inputs,
        },
        start.files,
        code=tuple(sorted({name for run in runs for name in method_code(run.row.method)})),
        without=METHOD_TABLE,
        libraries=TRAINING,
        seconds_hint=4,
    )
