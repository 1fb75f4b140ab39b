"""The common part of all domains' profiles; the values are in the domains' own files.

There, each value of the paper's experiments is marked with its source: [paper] the article's text,
[code] the authors' released configuration, or [ours] our choice where neither gives it. ``tiny`` is
a model organism: all of its values are ours.

Any value can be changed with ``--set`` and its dotted name: ``--set po.learning_rate=1e-6
--set methods.dpo.beta=0.2 --set data.hh_rlhf=FILE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tasks.models.base_config import BaseModelConfig
from tasks.models.generation_settings import GenerationSettings

WORLD = "world"
"""A data source: the embedded world's own rows."""
HUB = "hub"
"""A benchmark's source: the data set on the hub that lm-eval names."""
Device = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training run; a method may override them under ``methods``."""

    learning_rate: float
    epochs: float
    batch_size: int
    """Pairs in an optimizer step."""
    device_batch_size: int
    """Pairs in one forward pass; the rest of a step is accumulated."""
    max_length: int
    max_prompt_length: int
    scheduler: str = "cosine"
    warmup: float = 0.1
    """Share of all steps for the warm-up."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    save_steps: int | None = None
    """Steps between checkpoints, from which an interrupted run resumes; none for no checkpoints."""
    order: Literal["random", "given"] = "random"
    """Whether the pairs of an epoch are shuffled or taken in the given order."""
    logging_steps: int = 10
    """Steps between two entries of the history."""
    validation_steps: int | None = None
    """Steps between measurements of the loss on validation pairs; the model with the lowest loss is
    kept. none keeps the last model."""
    snapshot_steps: int | None = None
    """Steps between the models that are kept for measurements during training; none keeps none."""
    load_in_4bit: bool = False
    """Quantize the model's own weights, which only adapters are trained beside (QLoRA)."""
    lora_r: int | None = None
    """Rank of LoRA adapters; none trains the whole model."""
    lora_alpha: int | None = None
    lora_dropout: float | None = None
    lora_targets: str | None = None
    """Names of the modules with adapters, joined by +; none for those usual for the model."""


@dataclass(frozen=True)
class StatisticsSettings:
    """Settings of the 95 % intervals and tests."""

    replicates: int = 2000
    seed: int = 0
    alpha: float = 0.05
    """Threshold for p-values, after adjustment for the number of comparisons."""


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How `run --tune` chooses a method's settings; domains set the criterion."""

    always_used: ClassVar[tuple[str, ...]] = ()
    """Values that the rows as published depend on too."""

    trials: int = 8
    """Trials of each method; the first one has the published settings."""
    criterion: str = ""
    """What the trials are compared by, on validation data; empty in a domain without tuned rows."""
    kl_budget: float | None = None
    """Nats per response that a trial's KL to the reference may have; none for no limit."""


@dataclass(frozen=True)
class DynamicsSettings:
    """What the figures of training dynamics show."""

    masks: Literal["independent", "common"] = "independent"
    """SparsePO's setup: two masks [paper], or the common one, as a variant of the figure [ours]."""


FIRST_SEED = 42
"""[paper] The seed of the first chain."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A complete set of values, to which each domain adds its own."""

    chain_seeds: ClassVar[tuple[str, ...]] = ("base.seed",)
    """Dotted names of the seeds that are set to the chain's; see `harness.config.chains`."""

    name: str
    description: str
    data: Any
    """The domain's data sources, a dataclass; local paths are identified by their contents."""
    model: Any
    """The domain's models, a dataclass."""
    sft: TrainingSettings | None = None
    """None if the initial model of preference optimization is given."""
    po: TrainingSettings
    tuning: TuningSettings = field(default_factory=TuningSettings)
    methods: Mapping[str, Mapping[str, Any]]
    """Method → its hyper-parameters and its own values of fields of ``po``."""
    seed: int = FIRST_SEED
    """Seed of the first chain; the others count up from it."""
    seeds: int
    """Number of chains: repetitions of the whole experiment, from the world to the evaluation."""
    device: Device
    workers: int | None
    """Number of stages to run at once; none for one per core, or one per GPU on a GPU machine."""
    base_threads: int = 1
    """Torch threads of the base model's training."""
    base: BaseModelConfig = field(default_factory=BaseModelConfig)
    """The tiny base model, trained from scratch."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    """What draws the samples of models; see docs/generation.md."""
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)


def needs_tune(profile: Profile, key: str) -> bool:
    """Return whether a value of a profile, by its dotted name, is used with `--tune` alone."""
    group, _, name = key.partition(".")
    return group == "tuning" and name not in profile.tuning.always_used


def resolve_device(device: Device) -> Device:
    """Return "cpu" or "cuda"; "auto" selects the GPU if there is one."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
