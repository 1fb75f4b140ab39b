"""Stages that train: the tiny base model, and any method on preference pairs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from harness.stages import StageContext
from harness.work.common import read_pairs_file, write_json
from sparsepo import POConfig, POTrainer, load_plugin
from sparsepo.loading import last_checkpoint
from tasks.base_model import BaseModelConfig, train_base_model

MODEL = "model"
CHECKPOINTS = "checkpoints"
REFERENCE_CACHE = "reference"
_TIMINGS = ("runtime", "per_second", "flos")


def train_base(context: StageContext) -> None:
    """Train the tiny base model from scratch; the configuration is a BaseModelConfig's fields."""
    torch.set_num_threads(context.threads)
    corpus = context.inputs["corpus"] / "corpus.jsonl"
    train_base_model(
        BaseModelConfig(**context.config),
        corpus,
        context.work / MODEL,
        lambda step, steps, loss: context.progress(step, steps, "steps"),
    )


def train_policy(context: StageContext) -> None:
    """Train a method, go on from a checkpoint if there is one, and score held-out pairs.

    Configuration: `method`, `hyper_parameters`, `training` (TrainingSettings' fields), `seed`,
    `device`, `model` (a hub id, or None for the input or the folder "model"). An input "reference"
    is a cache of the reference's log-probabilities. Writes `model/` (a plain Hugging Face model),
    `training.json` (the logged metrics) and `scores.json` (implicit rewards of the held-out pairs).
    """
    if "plugin" in context.files:
        load_plugin(context.files["plugin"])
    config = context.config
    training: dict[str, Any] = config["training"]
    checkpoints = context.work / CHECKPOINTS
    trainer = POTrainer(
        model=str(starting_model(context)),
        args=POConfig(
            output_dir=str(checkpoints),
            method=config["method"],
            method_args=dict(config["hyper_parameters"]),
            seed=config["seed"],
            data_seed=config["seed"],
            learning_rate=training["learning_rate"],
            num_train_epochs=training["epochs"],
            reference_cache=_reference_cache(context),
            per_device_train_batch_size=training["device_batch_size"],
            gradient_accumulation_steps=max(
                1, training["batch_size"] // training["device_batch_size"]
            ),
            lr_scheduler_type=training["scheduler"],
            warmup_steps=training["warmup"],
            weight_decay=training["weight_decay"],
            max_grad_norm=training["max_grad_norm"],
            activation_checkpointing=training["activation_checkpointing"],
            save_strategy="no" if training["save_steps"] is None else "steps",
            save_steps=training["save_steps"] or 500,
            save_total_limit=1,
            disable_tqdm=True,
            report_to="none",
            **data_arguments(config),
        ),
        train_dataset=read_pairs_file(context.inputs["pairs"] / "train.jsonl"),
        callbacks=[_Report(context)],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
    trainer.save_model(str(context.work / MODEL))
    history = [
        {k: v for k, v in entry.items() if not any(word in k for word in _TIMINGS)}
        for entry in trainer.state.log_history
    ]
    report = trainer.tokenizer_report
    write_json(
        {"history": history, "tokenization": asdict(report) if report is not None else None},
        context.work / "training.json",
    )
    held_out = read_pairs_file(context.inputs["pairs"] / "test.jsonl")
    write_json([asdict(s) for s in trainer.score_pairs(held_out)], context.work / "scores.json")
    shutil.rmtree(checkpoints, ignore_errors=True)


def data_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of POConfig that a training run shares with its reference cache.

    Args:
        config: of a stage, with `training` and `device`.
    """
    training = config["training"]
    return {
        "max_length": training["max_length"],
        "max_prompt_length": training["max_prompt_length"],
        "on_long_response": "truncate",
        "per_device_eval_batch_size": training["device_batch_size"],
        "bf16": training["precision"] == "bfloat16",
        "use_cpu": config["device"] == "cpu",
    }


def _reference_cache(context: StageContext) -> str | None:
    built = context.inputs.get("reference")
    return None if built is None else str(built / REFERENCE_CACHE)


def starting_model(context: StageContext) -> Path | str:
    """Return where training starts: an input stage's model, a folder of the user's, a hub id."""
    if "model" in context.inputs:
        return context.inputs["model"] / MODEL
    if "model" in context.files:
        return context.files["model"]
    return str(context.config["model"])


class _Report(TrainerCallback):
    """Tells the run's display how far training is."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._context.progress(state.global_step, state.max_steps, "steps")
