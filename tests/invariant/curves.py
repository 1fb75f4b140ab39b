"""Recorded curves: what a plain single-process run logs, and what every other way to run must log.

The files under curves/ were written by `python -m tests.invariant.record`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sparsepo import POTrainer
from tests.invariant.training import make_trainer, steps
from tests.small_models import small_model, text_pairs

FOLDER = Path(__file__).with_name("curves")

PAIRS = 22
"""Not a multiple of the batch: the last step of an epoch holds half as many pairs."""

SETTINGS: dict[str, Any] = {
    # AdamW divides by the gradient's size: where that is about 0, a difference of 1e-9 in it would
    # become one of the learning rate's size. SGD keeps differences as small as they are.
    "optim": "sgd",
    "learning_rate": 0.1,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
}
MASKED: dict[str, Any] = {
    # Dropout is drawn by the shape of a batch and by each process for itself, so that it must be
    # off for a run to be compared with one that has other batches.
    "mask_dropout": 0.0,
    # The curves are of PyTorch's initialisation, the rectifiers' own gradient and the policy's
    # rate, as in the paper.
    "mask_init": "paper",
    "mask_gradient": "exact",
    "mask_learning_rate": "policy",
    "mask_initial_sparsity": 30,
    "l1_reward": 1e-3,
    "l1_kl": 1e-3,
}
METRICS = (
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/margins",
    "logps/chosen",
    "kl/chosen",
)


LAPTOP: dict[str, Any] = {
    # SmolLM2-135M, which the profile `laptop` trains, at a twelfth of its width and a tenth of its
    # depth: three heads that share one of keys and values, an output projection that is the
    # embedding.
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
SHAPES = {"llama": LAPTOP}

TARGETS = {
    "gpt2": ["c_attn"],
    "gpt_neox": ["query_key_value"],
    "llama": [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
}


@dataclass(frozen=True)
class Run:
    """A run whose curve is recorded."""

    method: str
    architecture: str
    lora: bool = False
    trained: bool = False
    """The adapters were trained before, so that the reference is a frozen copy of them."""

    @property
    def name(self) -> str:
        kind = "-lora-trained" if self.trained else "-lora" if self.lora else ""
        return f"{self.architecture}-{self.method}{kind}"

    @property
    def settings(self) -> dict[str, Any]:
        settings = {**SETTINGS, **(MASKED if self.method.startswith("sparsepo") else {})}
        # Adapters start without effect, and gradients reach but one of their two factors.
        return {**settings, "learning_rate": 1.0} if self.name == "gpt_neox-dpo-lora" else settings

    def base(self) -> PreTrainedModel:
        return small_model(self.architecture, **SHAPES.get(self.architecture, {}))

    def model(self) -> PreTrainedModel:
        model = self.base()
        if not self.lora:
            return model
        torch.manual_seed(0)
        targets = TARGETS[self.architecture]
        fan_in_fan_out = self.architecture == "gpt2"
        adapted: Any = get_peft_model(
            model, LoraConfig(r=8, target_modules=targets, fan_in_fan_out=fan_in_fan_out)
        )
        if self.trained:
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.1)
        return adapted

    def trainer(self, output: Path, **changes: Any) -> POTrainer:
        settings = {**self.settings, **changes}
        model = settings.pop("model", None)
        return make_trainer(
            output,
            self.method,
            model=self.model() if model is None else model,
            pairs=text_pairs(PAIRS, seed=11),
            **settings,
        )


METHODS = ("dpo", "tdpo1", "mapo", "sparsepo-common", "sparsepo-independent")
RUNS = {
    run.name: run
    for run in (
        *(Run(method, name) for name in ("gpt2", "gpt_neox") for method in METHODS),
        Run("sparsepo-common", "gpt2", lora=True),
        Run("dpo", "gpt_neox", lora=True),
        Run("tdpo1", "gpt2", lora=True, trained=True),
        Run("dpo", "llama"),
        Run("sparsepo-independent", "llama"),
        Run("sparsepo-common", "llama", lora=True),
    )
}


@dataclass(frozen=True)
class Tolerance:
    """How far a curve may be from the recorded one."""

    loss: float
    """Relative."""
    others: float
    """Relative, and absolute in the metric's own unit."""


FLOAT32 = Tolerance(loss=1e-5, others=2e-4)
"""The same sums in another order: 1e-7 each, grown over the steps of a run."""

AUTOCAST = Tolerance(loss=3e-3, others=0.05)
"""bfloat16 rounds by up to 4e-3, and a loss is made of differences of rounded numbers."""

HALF_WEIGHTS = Tolerance(loss=3e-2, others=0.2)
"""Besides, weights of bfloat16 lose what is smaller than 4e-3 of themselves in an update."""


def entries(trainer: POTrainer) -> list[dict[str, float]]:
    """Return what a trainer logged at each step, the recorded metrics alone."""
    return [{name: entry[name] for name in METRICS if name in entry} for entry in steps(trainer)]


def recorded(name: str) -> list[dict[str, float]]:
    """Return a recorded curve."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    curve: list[dict[str, float]] = content["steps"]
    return curve


def assert_follows(
    ours: POTrainer | Sequence[dict[str, float]], name: str, tolerance: Tolerance = FLOAT32
) -> None:
    """Assert that a run logged a recorded curve, step by step."""
    found = entries(ours) if isinstance(ours, POTrainer) else list(ours)
    expected = recorded(name)
    assert len(found) == len(expected) == 12
    for step, (mine, wanted) in enumerate(zip(found, expected, strict=True), 1):
        assert mine.keys() == wanted.keys()
        assert mine["loss"] == pytest.approx(wanted["loss"], rel=tolerance.loss), f"step {step}"
        for metric, value in wanted.items():
            assert mine[metric] == pytest.approx(
                value, rel=tolerance.others, abs=tolerance.others
            ), f"step {step}: {metric}"
