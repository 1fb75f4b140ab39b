"""A table's stage graph for each chain: world, base model, SFT, a run per row, evaluation.

Chains share what does not depend on their seed, such as preference pairs from a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness.config.chains import chains
from harness.config.methods import METHOD_TABLE, check_methods, method_code, without_defaults
from harness.config.profiles import WORLD
from harness.config.search import Trial
from harness.domains.common.generation import generation_parts
from harness.domains.common.rows import BASE
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import (
    GENERATION,
    TRAINING,
    Start,
    base_stage,
    existing_path,
    outside_path,
    outside_start,
    train_stage,
    whole_stage,
)
from harness.domains.common.tuning import (
    Search,
    as_trial,
    measuring_stage,
    search,
    searches_of,
    trial_name,
)
from harness.domains.dialogue.profile import TRAIN_FROM_SCRATCH, AlignmentProfile
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.registry import method_class

BENCHMARKS = ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval")
PRUNED = (50, 75, 90, 95)
"""Percentages of a trained mask's values, the smallest ones, that are set to 0 when it is measured
[ours]."""

_EVALUATION = ("torch", "transformers", "tokenizers", "numpy", "lm_eval", "datasets", "nltk")
_SCORERS = ("math-verify", "langdetect", "sympy", "antlr4-python3-runtime")


@dataclass(frozen=True)
class System:
    """The model of a row in one chain, and what is measured on it."""

    seed: int
    """The chain's."""
    model: Stage | None
    """Its training; None for the base model."""
    leaderboard: Stage
    judged: Stage | None
    search: Search | None = None
    """The trials of a tuned row."""
    masks: Stage | None = None
    """Measurement of its mask, if it has one and the table shows it."""


@dataclass(frozen=True)
class Graph:
    """All stages of a table."""

    pairs: tuple[Stage, ...]
    """Preference pairs of each chain."""
    checks: tuple[Stage, ...]
    """Check of the benchmark files of each chain."""
    systems: Mapping[str, tuple[System, ...]]
    """Row id → one system per chain."""
    sources: Mapping[str, str | None]
    """Benchmark → "world", "hub", "file" or None."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Column or benchmark → why it is missing."""

    @property
    def searches(self) -> dict[str, list[Search]]:
        """Tuned row → its trials in each chain."""
        return searches_of(self.systems)

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the table can be made, checks first."""
        stages = [*self.pairs, *self.checks]
        runs = [system for systems in self.systems.values() for system in systems]
        stages += [system.model for system in runs if system.model is not None]
        # Leaderboards of different models share what a worker process has loaded.
        stages += [system.leaderboard for system in runs]
        stages += [system.judged for system in runs if system.judged is not None]
        stages += [system.masks for system in runs if system.masks is not None]
        return stages


def build_graph(
    profile: AlignmentProfile,
    rows: Sequence[RowSpec],
    plugins: Mapping[str, Path] | None = None,
    user_benchmarks: Sequence[str] = (),
) -> Graph:
    """Describe what a table needs.

    Args:
        profile: all values.
        rows: those to be shown; the method "base" is the starting model.
        plugins: method → the file that it was loaded from with --plugin.
        user_benchmarks: the benchmarks whose rows the user named; if there are any, the others
            are missing rather than filled with rows of another origin.

    Returns:
        The stages; nothing has been run.

    Raises:
        UserError: for a missing file, an unknown method, or a value that a method does not use.
    """
    check_methods(profile)
    sources, files, notes = _sources(profile, user_benchmarks)
    if profile.pair_source.real:
        notes["win_rate"] = "the rule judge knows the embedded world's requests only"
        notes["auroc"] = "the tokens that decide are known for the embedded world's pairs only"
    built = [Chain(chain, sources, files, plugins or {}) for chain in chains(profile)]
    return Graph(
        tuple(chain.pairs for chain in built),
        tuple(chain.check for chain in built),
        {row.id: tuple(chain.system(row) for chain in built) for row in rows},
        sources,
        notes,
    )


class Chain:
    """The stages that one chain's rows share, and makers of the others."""

    def __init__(
        self,
        profile: AlignmentProfile,
        sources: Mapping[str, str | None],
        files: Mapping[str, Path],
        plugins: Mapping[str, Path],
    ) -> None:
        self.profile = profile
        self.plugins = plugins
        self.caches: dict[str, Stage] = {}
        self.label = f"seed {profile.seed}"
        world = Stage(
            f"world {self.label}",
            "harness.domains.dialogue.work.world:make_world",
            asdict(profile.world),
            seconds_hint=5,
        )
        self.real = profile.pair_source.real
        self.pairs = self._pairs(world)
        needs_world = {"world": world} if WORLD in sources.values() else {}
        self.check = Stage(
            "check of the benchmark files" + (f" {self.label}" if needs_world else ""),
            "harness.domains.dialogue.work.check:check_benchmarks",
            {"sources": dict(sources)},
            needs_world,
            files,
            libraries=("datasets",),
            seconds_hint=5,
        )
        self.sources, self.files = sources, files
        self.evaluation_inputs = {"check": self.check, **needs_world}
        self.start = self._start(world)
        self.sft = whole_stage(self._train(RowSpec("sft", "sft", "SFT"), self.start))
        """The SFT model that preference optimization starts from, without adapters of its own."""

    def model(self, row: RowSpec) -> Stage:
        """Return a row's model in this chain, as published."""
        return self._train(row, self._start_of(row))

    def system(self, row: RowSpec) -> System:
        """Return a row's model in this chain, and what is measured on it.

        The base model has the leaderboard only: it is no method, and so has no implicit reward.
        """
        if row.method == BASE.method:
            board = self._leaderboard(f"{row.id} {self.label}", self.start)
            return System(self.profile.seed, None, board, None)
        search = self._search(row, self._start_of(row)) if row.tuned else None
        name = f"{row.id} {self.label}"
        model = self.model(row) if search is None else search.kept(name)
        judged = None if self.real else self._win_rate(model)
        leaderboard = self._leaderboard(model.name, Start({"model": model}))
        masks = self._masks(row, model)
        return System(self.profile.seed, model, leaderboard, judged, search, masks)

    def _start_of(self, row: RowSpec) -> Start:
        return self.start if row.method == "sft" else Start({"model": self.sft})

    def _train(self, row: RowSpec, start: Start, trial: Trial | None = None) -> Stage:
        settings = without_defaults(self.profile, row.method, row.settings)
        row = replace(row, settings=settings)
        return train_stage(
            self.profile,
            row,
            self.pairs,
            start,
            self.caches,
            plugin=self.plugins.get(row.method),
            overrides=None if trial is None else trial.settings,
            name=None if trial is None else trial_name(self.profile, row, trial),
        )

    def _search(self, row: RowSpec, start: Start) -> Search:
        """Return the trials of a tuned row; the first is the published row's own run."""
        if self.real:
            raise UserError(
                "--tune compares trials by win rate, which the rule judge knows for the embedded "
                f"world's requests only; leave {self.profile.pair_source.key} or --tune out."
            )

        def run(trial: Trial) -> Stage:
            trained = self._train(row, start, trial)
            return trained if trial.number == 0 else as_trial(trained)

        return search(self.profile, row, run, self._validate)

    def _validate(self, trial: Stage) -> Stage:
        """Return the stage that measures a trial on validation prompts."""
        profile = self.profile
        validation = Stage(
            f"validation pairs {self.label}",
            "harness.domains.dialogue.work.validation_pairs:make_validation_pairs",
            {"world": asdict(profile.world), "pairs": profile.tuning.prompts},
            seconds_hint=2,
        )
        return measuring_stage(
            "harness.domains.dialogue.work.validation:measure_trial",
            trial,
            {
                "batch_size": profile.evaluation.batch_size,
                "max_new_tokens": profile.evaluation.response_tokens,
                "seed": profile.evaluation.seed,
                "device": profile.device,
            },
            {"validation": validation, "reference": self.sft},
            libraries=GENERATION,
            options=generation_parts(profile).options,
            seconds_hint=5,
        )

    def _pairs(self, world: Stage) -> Stage:
        data, given = self.profile.data, self.profile.pair_source
        place = outside_path(given.key, given.value) if self.real else None
        return Stage(
            "preference pairs" + ("" if self.real else f" {self.label}"),
            given.reader if self.real else "harness.domains.dialogue.work.pairs:make_pairs",
            {
                "source": given.value if self.real and place is None else None,
                "train_pairs": data.train_pairs,
                "test_pairs": data.test_pairs,
            },
            {} if self.real else {"world": world},
            {given.file: place} if place is not None else {},
            libraries=("datasets", "pyarrow"),
            seconds_hint=3,
        )

    def _start(self, world: Stage) -> Start:
        """What SFT starts from."""
        name = self.profile.model.dialogue
        if name != TRAIN_FROM_SCRATCH:
            return outside_start("model.dialogue", name)
        corpus = world
        if self.real:
            corpus = Stage(
                f"corpus with real dialogues {self.label}",
                "harness.domains.dialogue.work.corpus:make_corpus",
                {},
                {"world": world, "pairs": self.pairs},
                seconds_hint=3,
            )
        return Start({"model": base_stage(self.profile, corpus)})

    def _leaderboard(self, name: str, model: Start) -> Stage:
        values = self.profile.evaluation
        caps = {"math_hard": values.math_tokens, "ifeval": values.ifeval_tokens}
        return Stage(
            f"leaderboard of {name}",
            "harness.domains.dialogue.work.leaderboard:evaluate",
            {
                "sources": dict(self.sources),
                "settings": {
                    "limit": {
                        name: own if own is not None else values.limit
                        for name, own in asdict(values.limits).items()
                        if own is not None or values.limit is not None
                    }
                    or None,
                    "batch_size": values.batch_size,
                    "pack_tokens": values.pack_tokens,
                    "max_gen_toks": {k: v for k, v in caps.items() if v is not None} or None,
                    "device": self.profile.device,
                    "dtype": values.dtype,
                },
                "model": model.model_id,
            },
            {**self.evaluation_inputs, **model.inputs},
            {**self.files, **model.files},
            libraries=(*_EVALUATION, *_SCORERS),
            seconds_hint=12,
        )

    def _masks(self, row: RowSpec, model: Stage) -> Stage | None:
        """Return the measurement of a row's mask; None if it has none, or nothing shows it."""
        values, settings = self.profile.measured_masks, self.profile.statistics
        if values is None or method_class(row.method).needs.mask == "none":
            return None
        start = self._start_of(row)
        return Stage(
            f"mask of {model.name}",
            "harness.domains.dialogue.work.masks:measure_masks",
            {
                "pairs": values.pairs,
                "pruned": list(PRUNED),
                "max_length": self.profile.po.max_length,
                "max_prompt_length": self.profile.po.max_prompt_length,
                "batch_size": self.profile.evaluation.batch_size,
                "replicates": settings.replicates,
                "seed": settings.seed,
                "device": self.profile.device,
                "model": start.model_id,
            },
            {"run": model, "pairs": self.pairs, **start.inputs},
            start.files,
            code=method_code(row.method),
            without=METHOD_TABLE,
            libraries=TRAINING,
            seconds_hint=6,
        )

    def responses(self, model: Stage) -> Stage:
        """Return a model's responses to held-out prompts."""
        values, generation = self.profile.evaluation, generation_parts(self.profile)
        return Stage(
            f"responses of {model.name}",
            "harness.domains.common.work.generate:generate",
            {
                "prompts": values.win_rate_prompts,
                "max_new_tokens": values.response_tokens,
                "temperature": values.temperature,
                "top_p": values.top_p,
                "seed": values.seed,
                "device": self.profile.device,
                "generation": generation.config,
            },
            {"model": model, "pairs": self.pairs},
            libraries=generation.libraries,
            options=generation.options,
            resumable=True,
            seconds_hint=4,
        )

    def _win_rate(self, model: Stage) -> Stage:
        return Stage(
            f"win rate of {model.name}",
            "harness.domains.dialogue.work.judge:judge",
            {},
            {"responses": self.responses(model), "pairs": self.pairs},
            seconds_hint=1,
        )


def _sources(
    profile: AlignmentProfile, user_benchmarks: Sequence[str]
) -> tuple[dict[str, str | None], dict[str, Path], dict[str, str]]:
    sources: dict[str, str | None] = {}
    files: dict[str, Path] = {}
    notes: dict[str, str] = {}
    for name in BENCHMARKS:
        source: str | None = getattr(profile.data, name)
        if user_benchmarks and name not in user_benchmarks and source == WORLD:
            source = None
            notes[name] = (
                f"no rows given (data.{name}), and real rows are not mixed with the world's"
            )
        elif source is None:
            notes[name] = f"no rows given (data.{name})"
        if source not in (None, WORLD, "hub"):
            files[name] = existing_path(f"data.{name}", str(source))
            source = "file"
        sources[name] = source
    if not any(sources.values()):
        raise UserError("No benchmark has rows; set at least one, such as data.bbh=FILE.")
    return sources, files, notes
