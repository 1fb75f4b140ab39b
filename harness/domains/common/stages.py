"""Stages of every domain (base model, policy, reference cache), and checks of outside files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.config.methods import METHOD_TABLE, method_code, method_settings
from harness.config.profiles import Profile, TrainingSettings
from harness.domains.common.packaged import PACKAGED, PackagedModel
from harness.domains.common.spec import RowSpec
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.methods.mapo import MaPO
from sparsepo.registry import get_method
from sparsepo.training.gguf import require_reader

TRAINING = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "safetensors")
"""Distributions whose versions affect a training run."""
GENERATION = ("torch", "transformers", "tokenizers")

CONVERT = "harness.domains.common.work.convert:convert_gguf"

_DATA_SUFFIX = re.compile(r"\.(jsonl?|gz|parquet|csv|txt|py|gguf)$")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def outside_path(key: str, value: str) -> Path | None:
    """Return the path of a local source, or None for a hub id.

    Args:
        key: the setting, for the error.
        value: its value.

    Raises:
        UserError: it is neither an existing path nor a possible hub id.
    """
    path = Path(value).expanduser()
    if path.exists():
        return path.resolve()
    if _HUB_ID.fullmatch(value) and not _DATA_SUFFIX.search(value) and not value.startswith("."):
        return None
    raise UserError(f"{key}: {value} does not exist; give a file, a folder or a hub id.")


def existing_path(key: str, value: str) -> Path:
    """Return an existing path.

    Raises:
        UserError: the path does not exist.
    """
    path = Path(value).expanduser()
    if not path.exists():
        raise UserError(f"{key}: {value} does not exist; give a file, a folder, hub or none.")
    return path.resolve()


def model_folder(key: str, value: str) -> Path | None:
    """Return the folder of a user's model, or None for a hub id.

    Raises:
        UserError: it is neither a model's folder nor a possible hub id.
    """
    place = outside_path(key, value)
    if place is not None and not (place / "config.json").is_file():
        raise UserError(f"{key}: {value} is not a model folder, because it has no config.json.")
    return place


@dataclass(frozen=True)
class Start:
    """The initial model of a domain's training: a stage, a user's folder, or a hub id."""

    inputs: Mapping[str, Stage] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    model_id: str | None = None


def outside_start(key: str, value: str) -> Start:
    """Return a model from outside as the initial model.

    Args:
        key: the setting, for errors.
        value: the name of a packaged model, a GGUF file, a folder or a hub id.

    Raises:
        UserError: it is none of these, or the model's package is not installed.
    """
    packaged = PACKAGED.get(value)
    if packaged is not None:
        return Start({"model": gguf_stage(packaged.files(key), packaged)})
    place = outside_path(key, value)
    if place is not None and place.suffix == ".gguf" and place.is_file():
        return Start({"model": gguf_stage({"gguf0": place})})
    folder = model_folder(key, value)
    return Start(model_id=value) if folder is None else Start(files={"model": folder})


def gguf_stage(files: Mapping[str, Path], packaged: PackagedModel | None = None) -> Stage:
    """Return the stage that turns a GGUF file into a checkpoint.

    Args:
        files: the file, or its parts.
        packaged: the model whose file it must be; None for any.

    Raises:
        UserError: the package that reads GGUF files is missing.
    """
    first = next(iter(files.values()))
    require_reader(first)
    return Stage(
        f"model {first.stem if packaged is None else packaged.title}",
        CONVERT,
        {
            "sha256": None if packaged is None else packaged.sha256,
            "packaged": None if packaged is None else packaged.name,
        },
        files=files,
        libraries=(*GENERATION, "gguf"),
        seconds_hint=20,
    )


def base_stage(profile: Profile, corpus: Stage) -> Stage:
    """Return the stage that trains a chain's tiny base model on a stage's corpus.jsonl."""
    return Stage(
        f"base model seed {profile.seed}",
        "harness.domains.common.work.base:train_base",
        asdict(profile.base),
        {"corpus": corpus},
        libraries=("torch", "transformers", "tokenizers"),
        threads=profile.base_threads,
        seconds_hint=180,
    )


def train_stage(
    profile: Profile,
    row: RowSpec,
    pairs: Stage,
    start: Start,
    caches: dict[str, Stage],
    *,
    plugin: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    variant: str = "",
) -> Stage:
    """Return the stage of a chain's training run; `common.work.train` describes its inputs.

    Args:
        profile: the chain's settings.
        row: whose method and settings.
        pairs: the preference pairs.
        start: the model that training starts from, which is the reference too.
        caches: existing reference caches of the chain by address; a new one is added.
        plugin: the file of a plug-in method.
        overrides: values that override those of the row, as under ``methods``.
        name: name of the run in progress and logs; row and seed by default.
        variant: what distinguishes these pairs from the chain's others, at the end of names.

    Raises:
        UserError: values contradict each other, or the method does not use one.
    """
    settings = {**row.settings, **(overrides or {})}
    inputs = {"pairs": pairs, **start.inputs}
    cache = _reference_inputs(profile, row, inputs, start, caches, settings, variant)
    hyper_parameters, training = method_settings(profile, row.method, settings)
    method = get_method(row.method, **hyper_parameters)
    if (lacks := not_provided(method)) is not None:
        raise UserError(f"{lacks}; leave it out with --methods.")
    further = third_models(profile, method, pairs, start, caches, variant)
    check_batches(training, row.method)
    return Stage(
        (name or f"{row.id} seed {profile.seed}") + variant,
        "harness.domains.common.work.train:train_policy",
        {
            "method": row.method,
            "hyper_parameters": hyper_parameters,
            "training": asdict(training),
            "seed": profile.seed,
            "device": profile.device,
            "model": start.model_id,
        },
        {**inputs, **cache, **further},
        {**start.files, **({} if plugin is None else {"plugin": plugin})},
        code=method_code(row.method),
        without=METHOD_TABLE,
        libraries=TRAINING,
        resumable=training.save_steps is not None,
        seconds_hint=15,
    )


def whole_stage(trained: Stage) -> Stage:
    """Return the stage with a trained model as a whole, which new adapters can be added to.

    Args:
        trained: a training run.

    Returns:
        The run itself, or the stage that merges the adapters that it trained.

    Raises:
        UserError: they belong to a quantized model.
    """
    training = trained.config["training"]
    if training["lora_r"] is None:
        return trained
    if training["load_in_4bit"]:
        raise UserError(
            "Adapters of a 4-bit model cannot be merged for what is trained from it; set "
            "sft.load_in_4bit=false."
        )
    return Stage(
        f"{trained.name}, merged",
        "harness.domains.common.work.merge:merge_adapters",
        {},
        {"model": trained},
        libraries=TRAINING,
        seconds_hint=15,
    )


def check_batches(training: TrainingSettings, method: str) -> None:
    """Check that a step consists of whole forward passes.

    Raises:
        UserError: it does not.
    """
    if training.batch_size % training.device_batch_size:
        raise UserError(
            f"batch_size {training.batch_size} of {method} is not a multiple of its "
            f"device_batch_size {training.device_batch_size}; change one of them."
        )


def not_provided(method: Method | type[Method]) -> str | None:
    """Return what a method needs and no run on pairs provides, as a sentence, or None."""
    needs = method.needs
    lacks = {
        "samples of the policy and their rewards": bool(needs.rollout),
        "the scores of both responses": needs.scores,
        "the probability that chosen is preferred": needs.win_probability,
        "a file with a weight for each token": needs.token_weights,
        "the policy of a previous iteration": "history" in needs.models,
    }
    for what, needed in lacks.items():
        if needed:
            drawn = needs.rollout or "history" in needs.models
            where = "only --table on-policy provides" if drawn else "no experiment provides"
            return f"Method '{method.name}' needs {what}, which {where}"
    return None


def third_models(
    profile: Profile,
    method: Method,
    pairs: Stage,
    start: Start,
    caches: dict[str, Stage],
    variant: str,
) -> dict[str, Stage]:
    """Return the further models that a method reads: DPO's run of the chain, and its opposite.

    Args:
        profile: the chain's settings; those of DPO train both.
        method: the method.
        pairs: the preference pairs.
        start: the model that training starts from.
        caches: see `train_stage`.
        variant: see `train_stage`.

    Returns:
        "oracle", trained by DPO on the pairs, and "anti", trained on the pairs with chosen and
        rejected exchanged; those that the method reads.
    """
    dpo = RowSpec("dpo", "dpo", "DPO")
    found = {}
    if "oracle" in method.needs.models:
        found["oracle"] = train_stage(profile, dpo, pairs, start, caches, variant=variant)
    if "anti" in method.needs.models:
        reversed_pairs = Stage(
            f"reversed pairs seed {profile.seed}{variant}",
            "harness.domains.common.work.reverse:reverse_pairs",
            {},
            {"pairs": pairs},
            seconds_hint=2,
        )
        name = f"dpo on reversed pairs seed {profile.seed}"
        found["anti"] = train_stage(
            profile, dpo, reversed_pairs, start, {}, name=name, variant=variant
        )
    return found


def _reference_inputs(
    profile: Profile,
    row: RowSpec,
    inputs: Mapping[str, Stage],
    start: Start,
    caches: dict[str, Stage],
    settings: Mapping[str, Any],
    variant: str,
) -> dict[str, Stage]:
    """Return the reference cache of a run; empty if its method uses none.

    The cache depends on a method's own settings only if they change its content. All methods and
    hyper-parameters of a chain therefore share one cache, which also contains MaPO's mask with its
    default settings.
    """
    hyper_parameters, training = method_settings(profile, row.method, settings)
    instance = get_method(row.method, **hyper_parameters)
    if not instance.needs.cacheable:
        return {}
    masked = instance if isinstance(instance, MaPO) else MaPO()
    deciding: tuple[str, ...] = (
        "max_length",
        "max_prompt_length",
        "device_batch_size",
        "precision",
    )
    values = asdict(training) | {"device_batch_size": profile.po.device_batch_size}
    if training.load_in_4bit:
        deciding += ("load_in_4bit", *(name for name in values if name.startswith("lora_")))
    owner = f" of {row.id}" if caches else ""
    stage = Stage(
        f"reference cache{owner} seed {profile.seed}{variant}",
        "harness.domains.common.work.reference:build_reference_cache",
        {
            "mask": {name: getattr(masked, name) for name in ("mask_families", "mask_mapping")},
            "training": {name: values[name] for name in deciding},
            "device": profile.device,
            "model": start.model_id,
        },
        inputs,
        start.files,
        code=method_code("mapo"),
        without=METHOD_TABLE,
        libraries=TRAINING,
        resumable=True,
        seconds_hint=8,
    )
    return {"reference": caches.setdefault(stage.address, stage)}
