"""A small training run of any method on pairs, with all that a method may need beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from benchmarks.steps import weights_file
from sparsepo import POConfig, POTrainer
from sparsepo.methods import BUILT_IN
from sparsepo.types import PreferencePair
from tests.small_models import small_model, small_tokenizer, text_pairs

ON_PAIRS = [name for name, cls in BUILT_IN.items() if not cls.needs.rollout]
MAX_LENGTH = 64


def judged(count: int, seed: int = 0) -> list[PreferencePair]:
    """Return pairs with scores and the probability that chosen is preferred."""
    pairs = text_pairs(count, seed)
    return [
        replace(pair, scores=(2.0 + place, 1.0), win_probability=0.8)
        for place, pair in enumerate(pairs)
    ]


def weights_of(pairs: Sequence[PreferencePair], file: Path) -> Path:
    """Write a weight for each token: ½ in chosen responses, 1½ in rejected ones."""
    return weights_file(pairs, small_tokenizer(), file, weights=(0.5, 1.5), max_length=MAX_LENGTH)


def config_of(folder: Path, method: str, **options: Any) -> POConfig:
    """Return the configuration of a short run on the CPU, logged at every step."""
    return POConfig(
        output_dir=str(folder / "out"),
        method=method,
        **{
            "use_cpu": True, "report_to": "none", "per_device_train_batch_size": 4, "max_steps": 4,
            "learning_rate": 1e-3, "logging_steps": 1, "save_strategy": "no", "warmup_steps": 0,
            "disable_tqdm": True, "max_length": MAX_LENGTH, **options,
        },
    )  # fmt: skip


def trainer_of(
    folder: Path,
    method: str,
    *,
    data: list[PreferencePair] | None = None,
    models: dict[str, Any] | None = None,
    callbacks: list[TrainerCallback] | None = None,
    **options: Any,
) -> POTrainer:
    """Return a trainer of four steps of four pairs, logged at every step."""
    data = judged(12) if data is None else data
    needs = BUILT_IN[method].needs
    if needs.token_weights:
        options.setdefault("token_masks", str(weights_of(data, folder / "weights.jsonl")))
    if models is None:
        models = {
            name: small_model("gpt2", seed=5 + place) for place, name in enumerate(needs.models)
        }
    return POTrainer(
        small_model("gpt2"),
        args=config_of(folder, method, **options),
        train_dataset=data,
        processing_class=small_tokenizer(),
        callbacks=callbacks,
        **models,
    )


def in_parts(folder: Path, method: str, size: int, **options: Any) -> POTrainer:
    """Return a trainer whose steps of four pairs may be split without changing its numbers.

    The last of three steps has two pairs. SGD keeps small differences small; the dropout of masks
    is off, because it is drawn by the shape of a batch.

    Args:
        folder: for what it writes.
        method: a method on pairs.
        size: pairs in a micro-batch of a process.
        options: further options.
    """
    if method.startswith("sparsepo"):
        options |= {"mask_dropout": 0.0, "l1_reward": 1e-3, "l1_kl": 1e-3}
    return trainer_of(
        folder, method, data=judged(10), per_device_train_batch_size=size, max_steps=3,
        optim="sgd", learning_rate=1e-4, lr_scheduler_type="constant", **options,
    )  # fmt: skip


def losses(trainer: POTrainer) -> list[float]:
    """Return the loss of each step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
