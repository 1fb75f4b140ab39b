"""Table 1's stage graph: world → base model → SFT → one run per method and seed → evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.config.methods import check_methods
from harness.config.profiles import FIRST_SEED, WORLD
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import (
    GENERATION,
    Start,
    base_stage,
    existing_path,
    outside_path,
    outside_start,
    reference_inputs,
    train_stage,
)
from harness.domains.dialogue.profile import TRAIN_FROM_SCRATCH, DialogueProfile
from harness.graph.stages import Stage
from sparsepo.errors import UserError

BENCHMARKS = ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval")

_EVALUATION = ("torch", "transformers", "tokenizers", "numpy", "lm_eval", "datasets", "nltk")
_SCORERS = ("math-verify", "langdetect", "sympy", "antlr4-python3-runtime")


@dataclass(frozen=True)
class System:
    """One trained model of a row, and what is measured on it."""

    seed: int
    model: Stage
    leaderboard: Stage
    judged: Stage | None


@dataclass(frozen=True)
class Graph:
    """All stages of a table."""

    pairs: Stage
    check: Stage
    systems: Mapping[str, tuple[System, ...]]
    """Row id → one system per seed."""
    sources: Mapping[str, str | None]
    """Benchmark → "world", "hub", "file" or None."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Column or benchmark → why it is missing."""

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the table can be made, checks first."""
        stages = [self.pairs, self.check]
        runs = [system for systems in self.systems.values() for system in systems]
        stages += [system.model for system in runs]
        # Leaderboards of different models share what a worker process has loaded.
        stages += [system.leaderboard for system in runs]
        stages += [system.judged for system in runs if system.judged is not None]
        return stages


def build_graph(
    profile: DialogueProfile,
    rows: Sequence[RowSpec],
    plugins: Mapping[str, Path] | None = None,
    user_benchmarks: Sequence[str] = (),
) -> Graph:
    """Describe what a table needs.

    Args:
        profile: all values.
        rows: those to be shown.
        plugins: method → the file that it was loaded from with --plugin.
        user_benchmarks: the benchmarks whose rows the user named; if there are any, the others
            are missing rather than filled with rows of another origin.

    Returns:
        The stages; nothing has been run.

    Raises:
        UserError: for a missing file, an unknown method, or a value that a method does not use.
    """
    check_methods(profile)
    world = _world(profile)
    pairs, real = _pairs(profile, world)
    sources, files, notes = _sources(profile, user_benchmarks)
    needs_world = WORLD in sources.values()
    check = Stage(
        "check of the benchmark files",
        "harness.domains.dialogue.work.check:check_benchmarks",
        {"sources": sources},
        {"world": world} if needs_world else {},
        files,
        libraries=("datasets",),
        seconds_hint=5,
    )
    start = _start(profile, world, pairs, real)
    sft = _sft(profile, pairs, start)
    if real:
        notes["win_rate"] = "the rule judge knows the embedded world's requests only"
    evaluation_inputs = {"check": check, **({"world": world} if needs_world else {})}
    systems: dict[str, tuple[System, ...]] = {}
    caches: dict[str, Stage] = {}
    for row in rows:
        runs = []
        for offset in range(1 if row.method == "sft" else profile.seeds):
            seed = FIRST_SEED + offset
            if row.method == "sft":
                model = _sft(profile, pairs, start, row)
            else:
                plugin = (plugins or {}).get(row.method)
                model = _preference_optimization(profile, row, seed, pairs, sft, caches, plugin)
            board = _leaderboard(
                profile, model, {**evaluation_inputs, "model": model}, sources, files
            )
            judged = None if real else _win_rate(profile, model, pairs)
            runs.append(System(seed, model, board, judged))
        systems[row.id] = tuple(runs)
    return Graph(pairs, check, systems, sources, notes)


def _sft(profile: DialogueProfile, pairs: Stage, start: Start, row: RowSpec | None = None) -> Stage:
    return train_stage(
        profile,
        "sft",
        FIRST_SEED,
        {"pairs": pairs, **start.inputs},
        files=start.files,
        model_id=start.model_id,
        overrides=row.settings if row is not None else None,
        name=f"{row.id if row is not None else 'sft'} seed {FIRST_SEED}",
    )


def _preference_optimization(
    profile: DialogueProfile,
    row: RowSpec,
    seed: int,
    pairs: Stage,
    sft: Stage,
    caches: dict[str, Stage],
    plugin: Path | None,
) -> Stage:
    inputs = {"pairs": pairs, "model": sft}
    cache = reference_inputs(profile, row.method, inputs, caches, row.settings, owner=row.id)
    return train_stage(
        profile,
        row.method,
        seed,
        {**inputs, **cache},
        files={} if plugin is None else {"plugin": plugin},
        overrides=row.settings,
        name=f"{row.id} seed {seed}",
    )


def _world(profile: DialogueProfile) -> Stage:
    return Stage(
        "world",
        "harness.domains.dialogue.work.world:make_world",
        asdict(profile.world),
        seconds_hint=5,
    )


def _pairs(profile: DialogueProfile, world: Stage) -> tuple[Stage, bool]:
    """The stage of preference pairs, and whether they are real rather than the world's."""
    source = profile.data.hh_rlhf
    real = source != WORLD
    place = outside_path("data.hh_rlhf", source) if real else None
    return Stage(
        "preference pairs",
        "harness.domains.dialogue.work.pairs:make_pairs",
        {
            "source": source if real and place is None else None,
            "train_pairs": profile.data.train_pairs,
            "test_pairs": profile.data.test_pairs,
        },
        {} if real else {"world": world},
        {"hh": place} if place is not None else {},
        libraries=("datasets", "pyarrow"),
        seconds_hint=3,
    ), real


def _sources(
    profile: DialogueProfile, user_benchmarks: Sequence[str]
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


def _start(profile: DialogueProfile, world: Stage, pairs: Stage, real: bool) -> Start:
    """What SFT starts from."""
    name = profile.model.dialogue
    if name != TRAIN_FROM_SCRATCH:
        return outside_start("model.dialogue", name)
    corpus = world
    if real:
        corpus = Stage(
            "corpus with real dialogues",
            "harness.domains.dialogue.work.corpus:make_corpus",
            {},
            {"world": world, "pairs": pairs},
            seconds_hint=3,
        )
    return Start({"model": base_stage(profile, corpus)})


def _leaderboard(
    profile: DialogueProfile,
    model: Stage,
    inputs: Mapping[str, Stage],
    sources: Mapping[str, str | None],
    files: Mapping[str, Path],
) -> Stage:
    values = profile.evaluation
    caps = {"math_hard": values.math_tokens, "ifeval": values.ifeval_tokens}
    return Stage(
        f"leaderboard of {model.name}",
        "harness.domains.dialogue.work.leaderboard:evaluate",
        {
            "sources": dict(sources),
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
                "device": profile.device,
                "dtype": values.dtype,
            },
        },
        inputs,
        files,
        libraries=(*_EVALUATION, *_SCORERS),
        seconds_hint=12,
    )


def _win_rate(profile: DialogueProfile, model: Stage, pairs: Stage) -> Stage:
    values = profile.evaluation
    responses = Stage(
        f"responses of {model.name}",
        "harness.domains.common.work.generate:generate",
        {
            "prompts": values.win_rate_prompts,
            "batch_size": values.batch_size,
            "max_new_tokens": values.response_tokens,
            "temperature": values.temperature,
            "top_p": values.top_p,
            "seed": values.seed,
            "device": profile.device,
        },
        {"model": model, "pairs": pairs},
        libraries=GENERATION,
        seconds_hint=4,
    )
    return Stage(
        f"win rate of {model.name}",
        "harness.domains.dialogue.work.judge:judge",
        {},
        {"responses": responses, "pairs": pairs},
        seconds_hint=1,
    )
