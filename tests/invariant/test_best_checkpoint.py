"""load_best_model_at_end: the run ends with policy and masks of the lowest held-out loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sparsepo.training.trainer import POTrainer
from tests.invariant.training import (
    StopAt,
    any_difference,
    assert_same_weights,
    make_trainer,
    turned,
)
from tests.small_models import small_model, text_pairs


def best_trainer(folder: Path, method: str, **options: Any) -> POTrainer:
    """Return a trainer of 6 steps whose held-out loss rises: there the preferences are turned."""
    settings: dict[str, Any] = {"eval_steps": 2, "save_steps": 2, "num_train_epochs": 2,
                                "load_best_model_at_end": True, **options}  # fmt: skip
    return make_trainer(folder, method, eval_strategy="steps", save_strategy="steps",
                        eval_pairs=turned(text_pairs(4)), **settings)  # fmt: skip


def assert_best_is_back(trainer: POTrainer, saved: Any) -> None:
    """Assert that the trainer holds the first checkpoint, which `saved` reads a policy from."""
    losses = {
        entry["step"]: entry["eval_loss"]
        for entry in trainer.state.log_history
        if "eval_loss" in entry
    }
    assert list(losses) == [2, 4, 6]
    assert min(losses, key=lambda step: losses[step]) == 2
    folders = [Path(str(trainer.args.output_dir)) / f"checkpoint-{step}" for step in (2, 6)]
    assert trainer.state.best_model_checkpoint == str(folders[0])
    best, last = (dict(saved(folder).state_dict()) for folder in folders)
    assert_same_weights({name: trainer.policy.state_dict()[name] for name in best}, best)
    assert any_difference(last, best)
    if len(trainer.model.masks):
        best, last = (load_file(folder / "masks.safetensors") for folder in folders)
        assert_same_weights(dict(trainer.model.masks.state_dict()), best)
        assert any_difference(last, best)
    assert trainer.evaluate()["eval_loss"] == losses[2]


@pytest.mark.parametrize("method", ["dpo", "sparsepo-common", "sparsepo-independent"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_the_best_checkpoint_is_loaded(tmp_path: Path, method: str, interrupted: bool) -> None:
    """Also by a run that was interrupted after it, and that never computed the best itself."""
    if interrupted:
        with pytest.raises(InterruptedError):
            best_trainer(tmp_path, method, callbacks=[StopAt(5)]).train()
    trainer = best_trainer(tmp_path, method)
    trainer.train(resume_from_checkpoint=interrupted)
    assert_best_is_back(trainer, AutoModelForCausalLM.from_pretrained)
    trainer.save_model(str(tmp_path / "out"))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert_same_weights(dict(saved.state_dict()), dict(trainer.policy.state_dict()))


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_best_adapters_are_loaded(tmp_path: Path, interrupted: bool) -> None:
    def trainer(**options: Any) -> POTrainer:
        torch.manual_seed(0)
        model = get_peft_model(small_model("llama"), LoraConfig(r=4))
        return best_trainer(tmp_path, "sparsepo-common", model=model, learning_rate=1e-2, **options)

    if interrupted:
        with pytest.raises(InterruptedError):
            trainer(callbacks=[StopAt(5)]).train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=interrupted)
    assert_best_is_back(
        resumed, lambda folder: PeftModel.from_pretrained(small_model("llama"), str(folder))
    )


def test_one_checkpoint_alone_may_be_kept(tmp_path: Path) -> None:
    """The best one then stays, and the newest goes."""
    trainer = best_trainer(tmp_path, "sparsepo-common", save_total_limit=1)
    trainer.train()
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    best = load_file(tmp_path / "checkpoint-2" / "masks.safetensors")
    assert_same_weights(dict(trainer.model.masks.state_dict()), best)
