"""Stages of every domain (base model, policy, reference cache), and checks of outside files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.config.methods import METHOD_TABLE, method_code, method_settings
from harness.config.profiles import Profile
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.methods.mapo import MaPO
from sparsepo.registry import get_method

TRAINING = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "safetensors")
"""Distributions whose versions affect a training run."""
GENERATION = ("torch", "transformers", "tokenizers")

_DATA_SUFFIX = re.compile(r"\.(jsonl?|gz|parquet|csv|txt|py)$")
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
    """Return a folder or a hub id as the initial model.

    Raises:
        UserError: it is neither.
    """
    folder = model_folder(key, value)
    return Start(model_id=value) if folder is None else Start(files={"model": folder})


def base_stage(profile: Profile, corpus: Stage, label: str) -> Stage:
    """Return the stage that trains the tiny base model on a stage's corpus.jsonl.

    Args:
        profile: the settings.
        corpus: the stage.
        label: tells this chain's model from the others'.
    """
    return Stage(
        f"base model {label}",
        "harness.domains.common.work.base:train_base",
        asdict(profile.base),
        {"corpus": corpus},
        libraries=("torch", "transformers", "tokenizers"),
        threads=profile.base_threads,
        seconds_hint=180,
    )


def train_stage(
    profile: Profile,
    method: str,
    seed: int,
    inputs: Mapping[str, Stage],
    *,
    files: Mapping[str, Path] | None = None,
    model_id: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Stage:
    """Return the stage of a training run; `common.work.train` describes its inputs.

    Args:
        profile: the settings.
        method: a registered method.
        seed: the run's seed.
        inputs: "pairs", and "model" unless it comes from outside; "reference".
        files: "plugin" for a plug-in method, "model" for a user's folder.
        model_id: a hub id instead of a model.
        overrides: values that override the profile's for this method, as under ``methods``.
        name: name of the run in progress and logs; method and seed by default.

    Raises:
        UserError: values contradict each other, or the method does not use one.
    """
    hyper_parameters, training = method_settings(profile, method, overrides)
    get_method(method, **hyper_parameters)
    if training.batch_size % training.device_batch_size:
        raise UserError(
            f"batch_size {training.batch_size} of {method} is not a multiple of its "
            f"device_batch_size {training.device_batch_size}; change one of them."
        )
    return Stage(
        name or f"{method} seed {seed}",
        "harness.domains.common.work.train:train_policy",
        {
            "method": method,
            "hyper_parameters": hyper_parameters,
            "training": asdict(training),
            "seed": seed,
            "device": profile.device,
            "model": model_id,
        },
        inputs,
        files or {},
        code=method_code(method),
        without=METHOD_TABLE,
        libraries=TRAINING,
        resumable=training.save_steps is not None,
        seconds_hint=15,
    )


def reference_inputs(
    profile: Profile,
    method: str,
    inputs: Mapping[str, Stage],
    caches: dict[str, Stage],
    overrides: Mapping[str, Any] | None = None,
    *,
    files: Mapping[str, Path] | None = None,
    model_id: str | None = None,
    label: str = "",
    owner: str | None = None,
) -> dict[str, Stage]:
    """Return the reference cache of a method; empty if it uses none.

    The cache depends on a method's own settings only if they change its content. All methods, seeds
    and hyper-parameters therefore share one cache, which also contains MaPO's mask with its default
    settings.

    Args:
        profile: the settings.
        method: a registered method.
        inputs: "pairs" of the training run, and "model" unless it comes from outside.
        caches: existing caches by address; a new one is added.
        overrides: see `train_stage`.
        files: "model" for a user's folder.
        model_id: a hub id instead of a model.
        label: added to the stage's name to tell chains apart.
        owner: the row that uses it, which names further caches; the method by default.
    """
    hyper_parameters, training = method_settings(profile, method, overrides)
    instance = get_method(method, **hyper_parameters)
    if not instance.needs.cacheable:
        return {}
    masked = instance if isinstance(instance, MaPO) else MaPO()
    deciding = ("max_length", "max_prompt_length", "device_batch_size", "precision")
    values = asdict(training) | {"device_batch_size": profile.po.device_batch_size}
    stage = Stage(
        (f"reference cache of {owner or method}" if caches else "reference cache") + label,
        "harness.domains.common.work.reference:build_reference_cache",
        {
            "mask": {name: getattr(masked, name) for name in ("mask_families", "mask_mapping")},
            "training": {name: values[name] for name in deciding},
            "device": profile.device,
            "model": model_id,
        },
        inputs,
        files or {},
        code=method_code("mapo"),
        without=METHOD_TABLE,
        libraries=TRAINING,
        resumable=True,
        seconds_hint=8,
    )
    return {"reference": caches.setdefault(stage.address, stage)}
