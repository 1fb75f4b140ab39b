"""Table 1's stage graph: world → base model → SFT → one run per method and seed → evaluation.

Nothing here imports a training library: when everything is in the store, a run only hashes
configurations, reads JSON and renders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.methods import check_methods, method_settings, training_code
from harness.profiles import (
    FIRST_SEED,
    TRAIN_FROM_SCRATCH,
    WORLD,
    Profile,
)
from harness.stages import Stage
from sparsepo.errors import UserError
from sparsepo.methods.mapo import MaPO
from sparsepo.registry import get_method

BENCHMARKS = ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval")

_TRAINING = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "safetensors")
_EVALUATION = ("torch", "transformers", "tokenizers", "numpy", "lm_eval", "datasets", "nltk")
_SCORERS = ("math-verify", "langdetect", "sympy", "antlr4-python3-runtime")
_GENERATION = ("torch", "transformers", "tokenizers")
_DATA_SUFFIX = re.compile(r"\.(jsonl?|gz|parquet|csv|txt|py)$")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


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
    """Method → one system per seed."""
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
    profile: Profile,
    methods: Sequence[str],
    plugins: Mapping[str, Path] | None = None,
    user_benchmarks: Sequence[str] = (),
) -> Graph:
    """Describe what a table needs.

    Args:
        profile: all values.
        methods: the rows' methods.
        plugins: method → the file that it was loaded from with --plugin.
        user_benchmarks: the benchmarks whose rows the user named; if there are any, the others
            are missing rather than filled with rows of another origin.

    Returns:
        The stages; nothing has been run.

    Raises:
        UserError: for a missing file, an unknown method, or a value that a method does not use.
    """
    check_methods(profile)
    device = resolve_device(profile)
    world = _world(profile)
    pairs, real = _pairs(profile, world)
    sources, files, notes = _sources(profile, user_benchmarks)
    needs_world = WORLD in sources.values()
    check = Stage(
        "check of the benchmark files",
        "harness.work.data:check_benchmarks",
        {"sources": sources},
        {"world": world} if needs_world else {},
        files,
        code=("tasks.leaderboard_v2", "harness.work.common"),
        libraries=("datasets",),
        seconds_hint=5,
    )
    start_inputs, start_files, start_id = _start(profile, world, pairs, real)
    sft = _train(
        profile, "sft", FIRST_SEED, device, {"pairs": pairs, **start_inputs}, start_files, start_id
    )
    if real:
        notes["win_rate"] = "the rule judge knows the embedded world's requests only"
    evaluation_inputs = {"check": check, **({"world": world} if needs_world else {})}
    systems: dict[str, tuple[System, ...]] = {}
    caches: dict[str, Stage] = {}
    for method in methods:
        runs = []
        for offset in range(1 if method == "sft" else profile.seeds):
            seed = FIRST_SEED + offset
            plugin = (plugins or {}).get(method)
            model = sft
            if method != "sft":
                inputs = {"pairs": pairs, "model": sft}
                inputs = {**inputs, **_reference(profile, method, device, inputs, caches)}
                outside = {"plugin": plugin} if plugin else {}
                model = _train(profile, method, seed, device, inputs, outside, None)
            board = _leaderboard(
                profile, device, model, {**evaluation_inputs, "model": model}, sources, files
            )
            judged = None if real else _win_rate(profile, device, model, pairs)
            runs.append(System(seed, model, board, judged))
        systems[method] = tuple(runs)
    return Graph(pairs, check, systems, sources, notes)


def resolve_device(profile: Profile) -> str:
    """Return "cpu" or "cuda"; "auto" takes the GPU where there is one."""
    if profile.device != "auto":
        return profile.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _world(profile: Profile) -> Stage:
    return Stage(
        "world",
        "harness.work.data:make_world",
        asdict(profile.world),
        code=("tasks.dialogue.world",),
        seconds_hint=5,
    )


def _pairs(profile: Profile, world: Stage) -> tuple[Stage, bool]:
    """The stage of preference pairs, and whether they are real rather than the world's."""
    source = profile.data.hh_rlhf
    real = source != WORLD
    place = outside_path("data.hh_rlhf", source) if real else None
    return Stage(
        "preference pairs",
        "harness.work.data:make_pairs",
        {
            "source": source if real and place is None else None,
            "train_pairs": profile.data.train_pairs,
            "test_pairs": profile.data.test_pairs,
        },
        {} if real else {"world": world},
        {"hh": place} if place is not None else {},
        code=("tasks.dialogue.hh", "sparsepo.data", "harness.work.common"),
        libraries=("datasets", "pyarrow"),
        seconds_hint=3,
    ), real


def _sources(
    profile: Profile, user_benchmarks: Sequence[str]
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
            files[name] = _existing(f"data.{name}", str(source))
            source = "file"
        sources[name] = source
    if not any(sources.values()):
        raise UserError("no benchmark has rows: set at least one, such as data.bbh=FILE")
    return sources, files, notes


def outside_path(key: str, value: str) -> Path | None:
    """Tell a local path from a hub id.

    Args:
        key: the setting, for the error.
        value: what the user wrote.

    Returns:
        The path, or None for a hub id.

    Raises:
        UserError: if it is neither an existing path nor looks like a hub id.
    """
    path = Path(value).expanduser()
    if path.exists():
        return path.resolve()
    if _HUB_ID.fullmatch(value) and not _DATA_SUFFIX.search(value) and not value.startswith("."):
        return None
    raise UserError(f"{key}: {value} does not exist; give a file, a folder or a hub id")


def _existing(key: str, value: str) -> Path:
    path = Path(value).expanduser()
    if not path.exists():
        raise UserError(f"{key}: {value} does not exist; give a file, a folder, hub or none")
    return path.resolve()


def _start(
    profile: Profile, world: Stage, pairs: Stage, real: bool
) -> tuple[dict[str, Stage], dict[str, Path], str | None]:
    """What SFT starts from: (input stages, outside files, hub id)."""
    name = profile.model.dialogue
    if name != TRAIN_FROM_SCRATCH:
        place = outside_path("model.dialogue", name)
        if place is not None and not (place / "config.json").is_file():
            raise UserError(f"model.dialogue: {name} is no model folder, it has no config.json")
        return ({}, {"model": place}, None) if place is not None else ({}, {}, name)
    corpus = world
    if real:
        corpus = Stage(
            "corpus with real dialogues",
            "harness.work.data:make_corpus",
            {},
            {"world": world, "pairs": pairs},
            code=("tasks.dialogue.world.chat", "harness.work.common"),
            seconds_hint=3,
        )
    base = Stage(
        "base model",
        "harness.work.train:train_base",
        asdict(profile.base),
        {"corpus": corpus},
        code=("tasks.base_model", "sparsepo.tokenize", "tasks.special_tokens"),
        libraries=("torch", "transformers", "tokenizers"),
        threads=profile.base_threads,
        seconds_hint=180,
    )
    return {"model": base}, {}, None


def _train(
    profile: Profile,
    method: str,
    seed: int,
    device: str,
    inputs: Mapping[str, Stage],
    files: Mapping[str, Path],
    model_id: str | None,
) -> Stage:
    hyper_parameters, training = method_settings(profile, method)
    if training.batch_size % training.device_batch_size:
        raise UserError(
            f"batch_size {training.batch_size} of {method} is no multiple of its "
            f"device_batch_size {training.device_batch_size}: change one of them"
        )
    return Stage(
        f"{method} seed {seed}",
        "harness.work.train:train_policy",
        {
            "method": method,
            "hyper_parameters": hyper_parameters,
            "training": asdict(training),
            "seed": seed,
            "device": device,
            "model": model_id,
        },
        inputs,
        files,
        code=training_code(method),
        libraries=_TRAINING,
        resumable=training.save_steps is not None,
        seconds_hint=15,
    )


def _reference(
    profile: Profile,
    method: str,
    device: str,
    inputs: Mapping[str, Stage],
    caches: dict[str, Stage],
) -> dict[str, Stage]:
    """The cache that a method reads its reference from, as an input; none where it reads none.

    It depends on nothing that is one method's own, unless that changes its content, so that all
    methods and seeds share one: MaPO's mask, by its default values, is in it for every method.
    `caches` holds those that there are by address, and is extended.
    """
    hyper_parameters, training = method_settings(profile, method)
    instance = get_method(method, **hyper_parameters)
    if not instance.needs.cacheable:
        return {}
    masked = instance if isinstance(instance, MaPO) else MaPO()
    deciding = ("max_length", "max_prompt_length", "device_batch_size", "precision")
    values = asdict(training) | {"device_batch_size": profile.po.device_batch_size}
    stage = Stage(
        f"reference cache of {method}" if caches else "reference cache",
        "harness.work.reference:build_reference_cache",
        {
            "mask": {name: getattr(masked, name) for name in ("mask_families", "mask_mapping")},
            "training": {name: values[name] for name in deciding},
            "device": device,
        },
        inputs,
        code=(*training_code("mapo"), "harness.work.train"),
        libraries=_TRAINING,
        resumable=True,
        seconds_hint=8,
    )
    return {"reference": caches.setdefault(stage.address, stage)}


def _leaderboard(
    profile: Profile,
    device: str,
    model: Stage,
    inputs: Mapping[str, Stage],
    sources: Mapping[str, str | None],
    files: Mapping[str, Path],
) -> Stage:
    values = profile.evaluation
    caps = {"math_hard": values.math_tokens, "ifeval": values.ifeval_tokens}
    return Stage(
        f"leaderboard of {model.name}",
        "harness.work.leaderboard:evaluate",
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
                "device": device,
                "dtype": values.dtype,
            },
        },
        inputs,
        files,
        code=("tasks.leaderboard_v2", "sparsepo.tokenize", "harness.work.common"),
        libraries=(*_EVALUATION, *_SCORERS),
        seconds_hint=12,
    )


def _win_rate(profile: Profile, device: str, model: Stage, pairs: Stage) -> Stage:
    values = profile.evaluation
    responses = Stage(
        f"responses of {model.name}",
        "harness.work.generate:generate",
        {
            "prompts": values.win_rate_prompts,
            "batch_size": values.batch_size,
            "max_new_tokens": values.response_tokens,
            "temperature": values.temperature,
            "top_p": values.top_p,
            "seed": values.seed,
            "device": device,
        },
        {"model": model, "pairs": pairs},
        code=("tasks.generate", "sparsepo.tokenize", "harness.work.common"),
        libraries=_GENERATION,
        seconds_hint=4,
    )
    return Stage(
        f"win rate of {model.name}",
        "harness.work.judge:judge",
        {},
        {"responses": responses, "pairs": pairs},
        code=("tasks.dialogue.judge", "tasks.dialogue.world", "harness.work.common"),
        seconds_hint=1,
    )
