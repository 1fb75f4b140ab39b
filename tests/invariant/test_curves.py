"""However a run is carried out, it logs the recorded curve of the plain one.

Tolerances stand in curves.py: for the loss 1e-5 in float32, 3e-3 and 3e-2 in half precision, all
relative.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo.reference.online import unwrap_peft
from tests.invariant.curves import (
    AUTOCAST,
    FLOAT32,
    HALF_WEIGHTS,
    METHODS,
    RUNS,
    assert_follows,
    entries,
    recorded,
)
from tests.invariant.training import StopAt


@pytest.mark.parametrize("name", RUNS)
def test_the_plain_run_is_the_recorded_one(tmp_path: Path, name: str) -> None:
    """If this fails a change has changed the mathematics, or the machine computes otherwise."""
    trainer = RUNS[name].trainer(tmp_path)
    trainer.train()
    assert_follows(trainer, name)


def test_recorded_curves_are_worth_following() -> None:
    """Each moves, and no two are alike: a test that follows one could fail."""
    curves = {name: [entry["loss"] for entry in recorded(name)] for name in RUNS}
    assert {file.stem for file in (Path(__file__).with_name("curves")).glob("*.json")} == set(RUNS)
    for name, losses in curves.items():
        assert abs(losses[-1] / losses[0] - 1) > 100 * FLOAT32.loss, name
        for other, others in curves.items():
            close = [abs(a - b) <= FLOAT32.loss * b for a, b in zip(losses, others, strict=True)]
            assert other == name or not all(close), (name, other)
    for name in RUNS:
        file = Path(__file__).with_name("curves") / f"{name}.json"
        assert json.loads(file.read_text())["versions"].keys() >= {"torch", "transformers"}


def test_another_run_does_not_follow(tmp_path: Path) -> None:
    """The tolerances tell a learning rate that is 0.1 % larger."""
    run = RUNS["gpt2-dpo"]
    trainer = run.trainer(tmp_path, learning_rate=run.settings["learning_rate"] * 1.001)
    trainer.train()
    with pytest.raises(AssertionError):
        assert_follows(trainer, run.name)


@pytest.mark.parametrize(
    ("name", "size", "accumulated"),
    [
        ("gpt2-dpo", 1, 4),
        ("gpt_neox-tdpo1", 2, 2),
        ("gpt_neox-mapo", 1, 4),
        ("gpt2-sparsepo-common", 2, 2),
        ("gpt_neox-sparsepo-independent", 1, 4),
        ("gpt2-sparsepo-common-lora", 1, 4),
    ],
)
def test_gradient_accumulation(tmp_path: Path, name: str, size: int, accumulated: int) -> None:
    """1 × 4 pairs and 2 × 2 are 4 × 1, also in an epoch's last step, which holds two."""
    trainer = RUNS[name].trainer(
        tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=accumulated
    )
    trainer.train()
    assert_follows(trainer, name)


@pytest.mark.parametrize("name", ["gpt2-sparsepo-independent", "gpt_neox-dpo", "gpt_neox-dpo-lora"])
def test_interrupted_and_resumed(tmp_path: Path, name: str) -> None:
    """Interrupted in the second epoch, two steps after a checkpoint."""
    saving = {"save_strategy": "steps", "save_steps": 3}
    broken = RUNS[name].trainer(tmp_path, **saving, callbacks=[StopAt(11)])
    with pytest.raises(InterruptedError):
        broken.train()
    torch.manual_seed(999)  # A new process knows nothing of the old one's random state.
    resumed = RUNS[name].trainer(tmp_path, **saving)
    resumed.train(resume_from_checkpoint=True)
    assert_follows(resumed, name)


def test_interrupted_between_two_log_entries(tmp_path: Path) -> None:
    """The entry after it is the mean of all its steps, those before the interruption included."""
    name = "gpt2-sparsepo-common"
    saving = {"save_strategy": "steps", "save_steps": 5, "logging_steps": 4}
    broken = RUNS[name].trainer(tmp_path, **saving, callbacks=[StopAt(6)])
    with pytest.raises(InterruptedError):
        broken.train()
    resumed = RUNS[name].trainer(tmp_path, **saving)
    resumed.train(resume_from_checkpoint=True)
    found, steps = entries(resumed), recorded(name)
    assert len(found) == 3
    pairs = [4, 4, 4, 4, 4, 2] * 2
    for number, entry in enumerate(found):
        part = slice(4 * number, 4 * number + 4)
        losses = [step["loss"] for step in steps[part]]
        assert entry["loss"] == pytest.approx(sum(losses) / 4, rel=FLOAT32.loss)
        # Metrics are means over pairs, not over steps.
        for metric in ("logps/chosen", "rewards/margins"):
            weighed = [step[metric] * n for step, n in zip(steps[part], pairs[part], strict=True)]
            mean = sum(weighed) / sum(pairs[part])
            assert entry[metric] == pytest.approx(mean, rel=FLOAT32.others, abs=FLOAT32.others)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("gpt2-sparsepo-common", {}),
        ("gpt_neox-mapo", {}),
        ("gpt_neox-sparsepo-independent", {"gradient_accumulation_steps": 2}),
        ("gpt2-sparsepo-common-lora", {}),
        # The older way to recompute looks for gradients at the embedding, which LoRA freezes.
        ("gpt2-sparsepo-common-lora", {"activation_checkpointing_kwargs": {"use_reentrant": True}}),
    ],
    ids=str,
)
def test_recomputed_activations(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    accumulated = how.get("gradient_accumulation_steps", 1)
    trainer = RUNS[name].trainer(
        tmp_path,
        activation_checkpointing=True,
        per_device_train_batch_size=4 // accumulated,
        **how,
    )
    trainer.train()
    assert trainer.model.is_activation_checkpointing
    if trainer.reference.model is not unwrap_peft(trainer.policy):
        assert not trainer.reference.model.is_activation_checkpointing
    assert_follows(trainer, name)


@pytest.mark.parametrize("kind", ["autocast", "weights"])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision(tmp_path: Path, method: str, kind: str) -> None:
    """bfloat16 by autocast or in the weights: log-ratio 0 at step 0, then near float32's curve."""
    name = f"gpt_neox-{method}"
    changes: dict[str, Any] = {"bf16": True} if kind == "autocast" else {}
    if kind == "weights":
        changes["model"] = RUNS[name].model().to(torch.bfloat16)
    trainer = RUNS[name].trainer(tmp_path, **changes)
    trainer.train()
    dtypes = {weight.dtype for weight in trainer.policy.parameters()}
    assert dtypes == {torch.float32 if kind == "autocast" else torch.bfloat16}
    assert {weight.dtype for weight in trainer.model.masks.parameters()} <= {torch.float32}
    first, wanted = entries(trainer)[0], recorded(name)[0]
    assert first["rewards/margins"] == 0
    if not method.startswith("sparsepo"):
        assert first["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    assert_follows(trainer, name, AUTOCAST if kind == "autocast" else HALF_WEIGHTS)
