"""The stage that trains any method on preference pairs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.domains.common.work.files import (
    MODEL,
    TOKEN_MASKS,
    read_pairs_file,
    starting_model,
    write_json,
)
from harness.graph.cost import Cost
from harness.graph.report import Report
from harness.graph.stages import StageContext
from sparsepo.errors import DivergedError
from sparsepo.methods.base import MEANINGS
from sparsepo.registry import load_plugin
from sparsepo.training.config import POConfig
from sparsepo.training.loading import last_checkpoint
from sparsepo.training.trainer import POTrainer

CHECKPOINTS = "checkpoints"
REFERENCE_CACHE = "reference"
SNAPSHOTS = "snapshots"
_OF_THE_PROCESS = ("runtime", "per_second", "seconds/", "flos", "start_check", "train_loss")
"""Metrics that an interrupted run measures again, or of its last part alone."""


def train_policy(context: StageContext) -> None:
    """Train a method, resuming from a checkpoint if there is one, and score held-out pairs.

    Configuration: `method`, `hyper_parameters`, `training` (TrainingSettings' fields), `seed`,
    `device`, `model` (a hub id, or None for the input or the folder "model"). Inputs: "pairs" with
    train.jsonl and, where it is there, validation.jsonl and test.jsonl; "model"; "reference", a
    cache of the reference's log-probabilities; "masks" with masks.jsonl for given masks; "oracle"
    and "anti", runs whose models the method reads.

    Writes `model/` (a plain Hugging Face model), `snapshots/<step>/` (the same during training, if
    asked for), `training.json` (the logged metrics), `scores.json` (implicit rewards of the
    held-out pairs) and `cost.json` (seconds, memory and tokens, which no result depends on).
    """
    run_training(context)


def run_training(
    context: StageContext, observer: Callable[[POTrainer], TrainerCallback] | None = None
) -> None:
    """Do the same as `train_policy`, with a callback.

    Args:
        context: see train_policy.
        observer: returns the callback for a trainer.
    """
    if "plugin" in context.files:
        load_plugin(context.files["plugin"])
    pairs = context.inputs["pairs"]
    steps = context.config["training"]["snapshot_steps"]
    cost = Cost(context)
    trainer = POTrainer(
        model=str(starting_model(context)),
        args=POConfig(
            reference_cache=_reference_cache(context),
            token_masks=_token_masks(context),
            **training_arguments(context),
        ),
        train_dataset=read_pairs_file(pairs / "train.jsonl"),
        eval_dataset=(
            read_pairs_file(pairs / "validation.jsonl")
            if context.config["training"]["validation_steps"]
            else None
        ),
        callbacks=[cost, Report(context)],
        **further_models(context),
    )
    if steps:
        trainer.add_callback(Snapshots(trainer, context.work / SNAPSHOTS, steps))
    if observer is not None:
        trainer.add_callback(observer(trainer))
    train_to_end(context, trainer, cost)
    if (pairs / "test.jsonl").is_file():
        scores = trainer.score_pairs(read_pairs_file(pairs / "test.jsonl"))
        write_json([asdict(score) for score in scores], context.work / "scores.json")
    remove_checkpoints(context.work)


def training_arguments(context: StageContext) -> dict[str, Any]:
    """Return the arguments of POConfig that every training run has; see `train_policy`."""
    config = context.config
    return {
        "output_dir": str(context.work / CHECKPOINTS),
        "method": config["method"],
        "method_args": dict(config["hyper_parameters"]),
        "seed": config["seed"],
        "data_seed": config["seed"],
        "disable_tqdm": True,
        "report_to": "none",
        **_schedule(config["training"]),
        **adapter_arguments(config["training"]),
        **data_arguments(config),
    }


def further_models(context: StageContext) -> dict[str, Any]:
    """Return the folders of the further models among a stage's inputs, by the trainer's names."""
    return {name: str(context.inputs[name] / MODEL) for name in MEANINGS if name in context.inputs}


def train_to_end(context: StageContext, trainer: POTrainer, cost: Cost) -> None:
    """Train, from the last checkpoint if there is one; write model/, training.json and cost.json.

    Args:
        context: the stage's.
        trainer: made with `training_arguments`.
        cost: the first of its callbacks.
    """
    trainer.train(resume_from_checkpoint=last_checkpoint(context.work / CHECKPOINTS))
    _require_finite(trainer)
    cost.write(trainer)
    trainer.save_model(str(context.work / MODEL))
    history = [
        {k: v for k, v in entry.items() if not any(word in k for word in _OF_THE_PROCESS)}
        for entry in trainer.state.log_history
    ]
    report = trainer.tokenizer_report
    best = trainer.state.best_model_checkpoint
    write_json(
        {
            "history": history,
            "tokenization": report.counts() if report is not None else None,
            "steps": trainer.state.max_steps,
            "kept_step": trainer.state.max_steps if best is None else _step_of(best),
        },
        context.work / "training.json",
    )


def remove_checkpoints(work: Path) -> None:
    """Remove the checkpoints from a work folder, because they are no part of the artefact."""
    shutil.rmtree(work / CHECKPOINTS, ignore_errors=True)


def _require_finite(trainer: POTrainer) -> None:
    """Check what the last step has left, with which no loss has been computed."""
    module = trainer.accelerator.unwrap_model(trainer.model)
    logged = [v for entry in trainer.state.log_history for v in entry.values()]
    if not (
        all(bool(weight.isfinite().all()) for weight in module.parameters())
        and all(math.isfinite(value) for value in logged if isinstance(value, float))
    ):
        raise DivergedError(
            "A weight or a logged value is not finite after the last training step; lower the "
            "learning rate."
        )


class Snapshots(TrainerCallback):
    """Saves the policy at regular steps."""

    def __init__(self, trainer: POTrainer, folder: Path, steps: int) -> None:
        self._trainer = trainer
        self._folder = folder
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save the policy with its tokenizer."""
        if state.global_step % self._steps == 0:
            self._trainer.save_model(str(self._folder / str(state.global_step)))


def _schedule(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return POConfig's arguments for the steps and rates of a TrainingSettings."""
    accumulation = max(1, training["batch_size"] // training["device_batch_size"])
    validation = training["validation_steps"]
    saved = training["save_steps"] if validation is None else validation
    arguments = {
        "learning_rate": training["learning_rate"],
        "num_train_epochs": training["epochs"],
        "per_device_train_batch_size": training["device_batch_size"],
        "gradient_accumulation_steps": accumulation,
        "lr_scheduler_type": training["scheduler"],
        "warmup_steps": training["warmup"],
        "weight_decay": training["weight_decay"],
        "max_grad_norm": training["max_grad_norm"],
        "activation_checkpointing": training["activation_checkpointing"],
        "logging_steps": training["logging_steps"],
        "train_sampling_strategy": "random" if training["order"] == "random" else "sequential",
        "save_strategy": "no" if saved is None else "steps",
        "save_steps": saved or 500,
        "save_total_limit": 1,
    }
    if validation is not None:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": validation,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return arguments


def adapter_arguments(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return POConfig's arguments for the adapters of a TrainingSettings, quantization included."""
    return {
        "load_in_4bit": training["load_in_4bit"],
        "lora_r": training["lora_r"],
        "lora_alpha": training["lora_alpha"],
        "lora_dropout": training["lora_dropout"],
        "lora_target_modules": training["lora_targets"],
    }


def _step_of(checkpoint: str) -> int:
    return int(Path(checkpoint).name.rpartition("-")[2])


def data_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of POConfig that a training run shares with its reference cache.

    Args:
        config: a stage's configuration, with `training` and `device`.
    """
    training = config["training"]
    return {
        "max_length": training["max_length"],
        "max_prompt_length": training["max_prompt_length"],
        "on_long_response": "truncate",
        "per_device_eval_batch_size": training["device_batch_size"],
        "bf16": training["precision"] == "bfloat16",
        # Many checkpoints are stored in half precision, in which small updates are lost.
        "model_dtype": "float32",
        "use_cpu": config["device"] == "cpu",
    }


def _reference_cache(context: StageContext) -> str | None:
    built = context.inputs.get("reference")
    return None if built is None else str(built / REFERENCE_CACHE)


def _token_masks(context: StageContext) -> str | None:
    given = context.inputs.get("masks")
    return None if given is None else str(given / TOKEN_MASKS)
