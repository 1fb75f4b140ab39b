"""The stages of summarization for each chain: posts, SFT, a run per method, summaries, scores.

Chains share what does not depend on their seed, such as pairs from a file, and the tiny NLI model,
which is a measuring instrument and not part of what a chain repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.chains import chains
from harness.config.methods import check_methods
from harness.config.profiles import WORLD
from harness.domains.common.generation import generation_parts
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import (
    Start,
    base_stage,
    existing_path,
    model_folder,
    outside_path,
    outside_start,
    train_stage,
    whole_stage,
)
from harness.domains.summarization.profile import (
    TINY_NLI,
    TRAIN_FROM_SCRATCH,
    SummarizationProfile,
)
from harness.graph.stages import Stage
from sparsepo.errors import UserError

WORK = "harness.domains.summarization.work"
METRICS = ("rougeL", "bertscore", "self_bleu", "edna", "summac", "length")
_WITH_NLI = ("edna", "summac")
_SCORING = (
    "rouge-score",
    "bert-score",
    "sacrebleu",
    "nltk",
    "torch",
    "transformers",
    "tokenizers",
)
NO_NLI = (
    "the tiny NLI model knows only the world's statements; set model.nli to a model's folder or "
    "hub id"
)


@dataclass(frozen=True)
class System:
    """The model of a row in one chain, and what is measured on it."""

    seed: int
    """The chain's."""
    model: Stage | None
    """None for SFT where the initial model is given."""
    samples: Stage
    scores: Stage


@dataclass(frozen=True)
class Graph:
    """All stages of the figure."""

    pairs: tuple[Stage, ...]
    """Preference pairs of each chain."""
    prompts: tuple[Stage, ...]
    """Posts of each chain."""
    systems: Mapping[str, tuple[System, ...]]
    """Row id → one system per chain."""
    correlations: tuple[Stage, ...] = ()
    """Metrics against the truth, of each chain; empty for posts whose truth is not known."""
    nli: Stage | None = None
    """The tiny NLI model."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Metric → why it has no values."""

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the figure can be drawn."""
        runs = [system for systems in self.systems.values() for system in systems]
        stages = [*self.pairs, *self.prompts]
        stages += [system.model for system in runs if system.model is not None]
        return [*stages, *(system.scores for system in runs), *self.correlations]


def build_graph(
    profile: SummarizationProfile,
    rows: Sequence[RowSpec],
    plugins: Mapping[str, Path] | None = None,
) -> Graph:
    """Describe what the figure needs.

    Args:
        profile: all values.
        rows: those to be shown.
        plugins: method → the file that it was loaded from with --plugin.

    Returns:
        The stages; nothing has been run.

    Raises:
        UserError: for a missing file, an unknown method, or a value that is not used.
    """
    check_methods(profile)
    _check_sampling(profile)
    built = [Chain(chain, plugins or {}) for chain in chains(profile)]
    systems = {row.id: tuple(chain.system(row) for chain in built) for row in rows}
    known = profile.data.tldr == WORLD and profile.data.prompts == WORLD
    return Graph(
        tuple(chain.pairs for chain in built),
        tuple(chain.prompts for chain in built),
        systems,
        tuple(
            _correlations(chain.profile, {row: own[place] for row, own in systems.items()})
            for place, chain in enumerate(built)
        )
        if known
        else (),
        built[0].nli,
        {} if built[0].scorer else dict.fromkeys(_WITH_NLI, NO_NLI),
    )


class Chain:
    """The stages that one chain's rows share, and makers of the others."""

    def __init__(self, profile: SummarizationProfile, plugins: Mapping[str, Path]) -> None:
        self.profile = profile
        self.plugins = plugins
        self.caches: dict[str, Stage] = {}
        self.label = f"seed {profile.seed}"
        self.real = profile.data.tldr != WORLD
        world = world_stage(profile)
        self.pairs = self._pairs(world)
        self.prompts = self._prompts(world)
        self.nli: Stage | None = None
        self.scorer = self._scorer()
        self.sft_pairs = self._sft_pairs(world)
        start = self._start(world)
        self.sft: Stage | None = None
        self.whole: Stage | None = None
        """The SFT model that preference optimization starts from, without adapters of its own."""
        if profile.sft is not None:
            pairs = self.sft_pairs or self.pairs
            self.sft = train_stage(profile, RowSpec("sft", "sft", "SFT"), pairs, start, {})
            self.whole = whole_stage(self.sft)
            start = Start({"model": self.whole})
        self.start = start

    def model(self, row: RowSpec) -> Stage | None:
        """Return a row's training run; for SFT that of the initial model, if it is trained."""
        if row.method == "sft":
            return self.sft
        return train_stage(
            self.profile,
            row,
            self.pairs,
            self.start,
            self.caches,
            plugin=self.plugins.get(row.method),
        )

    def system(self, row: RowSpec) -> System:
        """Return a row's model in this chain, and what is measured on it."""
        model = self.model(row)
        name = f"{row.id} {self.label}"
        samples = self._samples(name, model)
        return System(self.profile.seed, model, samples, self._scores(name, samples))

    def responses(self, row: RowSpec) -> Stage:
        """Return one summary of each held-out pair's post, for win rates."""
        values, generation = self.profile.sampling, generation_parts(self.profile)
        model = self.model(row)
        start = self.start if model is None else Start({"model": model})
        return Stage(
            f"responses of {row.id} {self.label}",
            "harness.domains.common.work.generate:generate",
            {
                "prompts": values.win_rate_prompts,
                "max_new_tokens": values.new_tokens,
                "temperature": values.win_rate_temperature,
                "top_p": values.top_p,
                "seed": values.seed,
                "device": self.profile.device,
                "model": start.model_id,
                "generation": generation.config,
            },
            {"pairs": self.pairs, **start.inputs},
            start.files,
            libraries=generation.libraries,
            options=generation.options,
            resumable=True,
            seconds_hint=4,
        )

    def _pairs(self, world: Stage) -> Stage:
        data = self.profile.data
        subsets: dict[str, str | None] = {}
        files: dict[str, Path] = {}
        for name, source in (("tldr", data.tldr), ("tldr_rated", data.tldr_rated)):
            if source is None:
                continue
            place = None if source == WORLD else outside_path(f"data.{name}", source)
            subsets[name] = source if source != WORLD and place is None else None
            if place is not None:
                files[name] = place
        if WORLD in (data.tldr, data.tldr_rated) and (self.real or data.tldr_rated is not None):
            raise UserError(
                "Real pairs and the world's are not mixed; set data.tldr and data.tldr_rated to "
                "files or hub ids, or leave data.tldr_rated out."
            )
        return Stage(
            "preference pairs" + ("" if self.real else f" {self.label}"),
            f"{WORK}.pairs:make_pairs",
            {
                "subsets": subsets,
                "train_pairs": data.train_pairs,
                "test_pairs": data.test_pairs,
                "longest_difference": data.longest_difference,
                # Of a draw that all chains share: they differ in what is done with the data.
                "seed": 0,
            },
            {} if self.real else {"world": world},
            files,
            libraries=("datasets", "pyarrow"),
            seconds_hint=3,
        )

    def _prompts(self, world: Stage) -> Stage:
        source = self.profile.data.prompts
        place = None if source == WORLD else outside_path("data.prompts", source)
        inputs = {"world": world} if source == WORLD and not self.real else {"pairs": self.pairs}
        return Stage(
            "posts" + ("" if self.real else f" {self.label}"),
            f"{WORK}.prompts:make_prompts",
            {
                "source": source if source != WORLD and place is None else None,
                "prompts": self.profile.sampling.prompts,
            },
            inputs,
            {} if place is None else {"prompts": place},
            libraries=("datasets", "pyarrow"),
            seconds_hint=2,
        )

    def _sft_pairs(self, world: Stage) -> Stage | None:
        """Return the stage with SFT's own summaries; None where it learns the chosen ones."""
        source = self.profile.data.sft
        if self.profile.sft is None or source is None or (source == WORLD and self.real):
            return None
        place = None if source == WORLD else outside_path("data.sft", source)
        return Stage(
            "summaries for SFT" + (f" {self.label}" if source == WORLD else ""),
            f"{WORK}.sft_pairs:make_sft_pairs",
            {"source": source if source != WORLD and place is None else None},
            {"world": world} if source == WORLD else {},
            {} if place is None else {"sft": place},
            libraries=("datasets", "pyarrow"),
            seconds_hint=2,
        )

    def _start(self, world: Stage) -> Start:
        """What SFT, or without it preference optimization, starts from."""
        name = self.profile.model.summarization
        if name != TRAIN_FROM_SCRATCH:
            return outside_start("model.summarization", name)
        corpus = world
        if self.real:
            own = {} if self.sft_pairs is None else {"sft": self.sft_pairs}
            corpus = Stage(
                "corpus of real posts",
                f"{WORK}.corpus:make_corpus",
                {},
                {"pairs": self.pairs, **own},
                seconds_hint=2,
            )
        return Start({"model": base_stage(self.profile, corpus)})

    def _scorer(self) -> bool:
        """Set the tiny NLI model's stage where it is used; return whether there is any NLI."""
        if self.profile.model.nli != TINY_NLI:
            return True
        if self.real or self.profile.data.prompts != WORLD:
            return False
        epochs = self.profile.metrics.nli_epochs
        self.nli = Stage(
            "tiny NLI model",
            f"{WORK}.nli:train_tiny_nli",
            {"config": {} if epochs is None else {"epochs": epochs}},
            {"world": _statements(self.profile)},
            libraries=("torch", "transformers", "tokenizers"),
            seconds_hint=90,
        )
        return True

    def _samples(self, name: str, model: Stage | None) -> Stage:
        values = self.profile.sampling
        generation = generation_parts(self.profile)
        start = self.start if model is None else Start({"model": model})
        return Stage(
            f"summaries of {name}",
            f"{WORK}.samples:sample_summaries",
            {
                "samples": values.samples,
                "temperatures": list(values.temperatures),
                "top_p": values.top_p,
                "new_tokens": values.new_tokens,
                "seed": values.seed,
                "device": self.profile.device,
                "model": start.model_id,
                "generation": generation.config,
            },
            {"prompts": self.prompts, **start.inputs},
            start.files,
            options=generation.options,
            libraries=generation.libraries,
            resumable=True,
            seconds_hint=15,
        )

    def _scores(self, name: str, samples: Stage) -> Stage:
        values, model = self.profile.metrics, self.profile.model
        config: dict[str, Any] = {}
        files: dict[str, Path] = {}
        for role, source in (("encoder", model.encoder), ("nli", model.nli)):
            place = None
            if source not in ("minilm", TINY_NLI):
                place = model_folder(f"model.{role}", source)
            config[role] = source if place is None and source != TINY_NLI else None
            if place is not None:
                files[role] = place
        if values.conv_weights is not None:
            if values.summac != "conv":
                raise UserError(
                    f"metrics.conv_weights has no effect with metrics.summac={values.summac}; "
                    "leave it out."
                )
            files["conv_weights"] = existing_path("metrics.conv_weights", values.conv_weights)
        settings = asdict(values)
        for elsewhere in ("nli_epochs", "conv_weights"):
            settings.pop(elsewhere)
        return Stage(
            f"scores of {name}",
            f"{WORK}.scores:score_summaries",
            {
                "metrics": [m for m in METRICS if self.scorer or m not in _WITH_NLI],
                **config,
                "settings": settings,
                "device": self.profile.device,
            },
            {
                "samples": samples,
                "prompts": self.prompts,
                **({"pairs": self.pairs} if values.idf else {}),
                **({} if self.nli is None else {"nli": self.nli}),
            },
            files,
            libraries=_SCORING,
            resumable=True,
            seconds_hint=25,
        )


def world_stage(profile: SummarizationProfile) -> Stage:
    """Return the stage with the embedded world of a chain."""
    return Stage(
        f"posts and summaries seed {profile.world.seed}",
        f"{WORK}.world:make_world",
        asdict(profile.world),
        seconds_hint=4,
    )


def _statements(profile: SummarizationProfile) -> Stage:
    """Return the stage with the world's statements alone, the same for all chains."""
    # The world's language is the same in all of them.
    alone = replace(
        profile.world,
        seed=0,
        documents=0,
        sft_rows=0,
        train_pairs=0,
        test_pairs=0,
        test_prompts=0,
    )
    return Stage("statements", f"{WORK}.world:make_world", asdict(alone), seconds_hint=1)


def _correlations(profile: SummarizationProfile, systems: Mapping[str, System]) -> Stage:
    settings = profile.statistics
    return Stage(
        f"metrics against the truth seed {profile.seed}",
        f"{WORK}.correlations:correlate",
        {"replicates": settings.replicates, "seed": [settings.seed, profile.seed]},
        {row: system.scores for row, system in systems.items()},
        libraries=("numpy", "scipy"),
        seconds_hint=10,
    )


def _check_sampling(profile: SummarizationProfile) -> None:
    values = profile.sampling
    if values.samples < 2:
        raise UserError(
            f"sampling.samples must be at least 2 for self-BLEU and EDNA, not {values.samples}."
        )
    if not values.temperatures or min(values.temperatures) < 0:
        raise UserError("sampling.temperatures needs at least one temperature, none below 0.")
    if len(set(values.temperatures)) < len(values.temperatures):
        raise UserError("sampling.temperatures names a temperature twice; leave one out.")
    if profile.data.sft is not None and profile.sft is None:
        raise UserError("data.sft has no effect, because the initial model needs no SFT here.")
