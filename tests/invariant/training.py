"""A small training run, for the invariants: same data, same seed, whatever is to be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from sparsepo import POConfig, POTrainer, PreferencePair
from sparsepo.training.start_check import START_CHECK
from tests.small_models import small_model, small_tokenizer, text_pairs

SECONDS = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


class StopAt(TrainerCallback):
    """Stops the process's training after a step as an interruption would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise InterruptedError


def make_trainer(
    output: Path,
    method: str = "sparsepo-independent",
    *,
    model: PreTrainedModel | None = None,
    architecture: str = "gpt_neox",
    pairs: list[PreferencePair] | None = None,
    eval_pairs: list[PreferencePair] | None = None,
    ref_model: PreTrainedModel | None = None,
    callbacks: Any = None,
    **settings: Any,
) -> POTrainer:
    """Return a trainer of a small model on 12 pairs, 3 steps an epoch, logged at every step."""
    arguments: dict[str, Any] = {
        "output_dir": str(output),
        "method": method,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "max_length": 64,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **settings,
    }
    return POTrainer(
        model if model is not None else small_model(architecture),
        ref_model=ref_model,
        args=POConfig(**arguments),
        train_dataset=text_pairs(12) if pairs is None else pairs,
        eval_dataset=eval_pairs,
        processing_class=small_tokenizer(),
        callbacks=callbacks,
    )


def turned(pairs: list[PreferencePair]) -> list[PreferencePair]:
    """Return pairs with the preferences turned, whose loss rises where that of `pairs` falls."""
    return [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]


def state(trainer: POTrainer) -> dict[str, Tensor]:
    """Return a copy of every weight of policy and masks."""
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def history(trainer: POTrainer) -> list[dict[str, float]]:
    """Return what was logged, without what the clock decides and each process checks anew."""
    return [
        {name: value for name, value in entry.items() if name not in (*SECONDS, START_CHECK)}
        for entry in trainer.state.log_history
    ]


def steps(trainer: POTrainer) -> list[dict[str, float]]:
    """Return the log entries of the steps, without the summary at the end."""
    return [entry for entry in history(trainer) if "loss" in entry]


def assert_same_weights(
    ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 0.0
) -> None:
    """Assert equality, bit for bit unless a tolerance is given."""
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        if tolerance:
            torch.testing.assert_close(
                ours[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
            )
        else:
            assert torch.equal(ours[name], value), f"{name} differs"


def any_difference(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Return whether some weight differs."""
    return any(not torch.equal(ours[name], value) for name, value in expected.items())
