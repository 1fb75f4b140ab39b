"""A mask that dies, or that never has a zero, is reported once, with what to do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo import get_method
from sparsepo.training.mask_watch import MaskWatch, watch_for
from tests.invariant.training import make_trainer


def entry(reward: float, kl: float) -> dict[str, float]:
    return {
        f"sparsity/{name}/{side}": value
        for name, value in (("reward", reward), ("kl", kl))
        for side in ("chosen", "rejected")
    }


def watch(**settings: Any) -> MaskWatch:
    method = get_method("sparsepo-independent", **settings)
    found = watch_for(method, ("reward", "kl"), 0.0123)
    assert found is not None
    return found


def test_a_dead_mask_is_reported_once_with_the_remedy() -> None:
    found = watch(l1_kl=0.1, mask_gradient="exact")
    assert found.see(entry(40, 60), 1, 100) == []
    (text,) = found.see(entry(40, 100), 8, 100)
    assert text == (
        "The KL mask is zero on all tokens at step 8, and cannot recover, because zeros pass no "
        "gradient; set l1_limit to preference, or set mask_gradient to straight-through, or lower "
        "mask_learning_rate (now 0.012) or l1_kl, or lower mask_initial_sparsity."
    )
    assert found.see(entry(40, 100), 9, 100) == []
    (other,) = found.see(entry(100, 100), 10, 100)
    assert other.startswith("The reward mask")


@pytest.mark.parametrize("settings", [{"l1_kl": 0.1, "l1_limit": "preference"}, {}])
def test_what_is_set_already_or_changes_nothing_is_no_remedy(settings: dict[str, Any]) -> None:
    (text,) = watch(**settings).see(entry(40, 100), 8, 100)
    assert text == (
        "The KL mask is zero on all tokens at step 8, so that its term of the loss does not train "
        "the policy; lower mask_learning_rate (now 0.012) or l1_kl, or lower "
        "mask_initial_sparsity."
    )


def test_of_pytorchs_initialisation_the_remedy_is_the_scaled_one() -> None:
    found = watch(mask_init="paper")
    (dead,) = found.see(entry(0, 100), 8, 100)
    assert "lower mask_learning_rate (now 0.012) or l1_kl, or set mask_init to scaled." in dead
    (dense,) = found.see(entry(0, 100), 60, 100)
    assert "set mask_init to scaled, or raise l1_reward" in dense


def test_a_mask_that_is_alive_on_one_side_is_not_dead() -> None:
    found = watch()
    logs = {**entry(50, 50), "sparsity/kl/rejected": 100.0}
    assert found.see(logs, 5, 100) == []


def test_a_dense_mask_is_reported_once_half_way() -> None:
    found = watch()
    for step in range(1, 50):
        assert found.see(entry(0, 10), step, 100) == []
    (text,) = found.see(entry(0, 10), 50, 100)
    assert text == (
        "The reward mask has had no zeros up to step 50, so it is not sparse; raise "
        "mask_initial_sparsity, or raise l1_reward or mask_weight_decay."
    )
    assert found.see(entry(0, 0), 100, 100) == []


def test_without_a_penalty_the_remedy_is_to_set_one() -> None:
    method = get_method("sparsepo-common", mask_weight_decay=0)
    found = watch_for(method, ("reward",), 0.01)
    assert found is not None
    (text,) = found.see(entry(0, 0), 60, 100)
    assert text.endswith("raise mask_initial_sparsity, or set l1_reward and l1_kl above 0.")
    assert text.startswith("The mask has had")


@pytest.mark.parametrize(
    ("method", "names"), [("dpo", ()), ("mapo", ()), ("sparsepo-common", ("reward",))]
)
def test_only_trained_masks_are_watched(method: str, names: tuple[str, ...]) -> None:
    assert (watch_for(get_method(method), names, 0.01) is None) == (not names)
    random = get_method("sparsepo-common", mask_kind="random")
    assert watch_for(random, ("reward",), 0.01) is None


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "mask" in record.message]


def test_training_reports_a_mask_that_it_kills(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A penalty and a learning rate so large that two steps take every value below zero."""
    caplog.set_level(logging.WARNING)
    trainer = make_trainer(tmp_path, "sparsepo-independent", mask_learning_rate=1.0, l1_reward=10.0,
                           l1_kl=10.0, num_train_epochs=2)  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[-2]["sparsity/kl/chosen"] == 100
    told = warnings_of(caplog)
    assert len(told) == 2
    assert all("lower mask_learning_rate (now 1)" in text for text in told)


def test_training_reports_a_mask_without_zeros(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    trainer = make_trainer(tmp_path, "sparsepo-common", mask_layers="last")
    with torch.no_grad():
        trainer.model.masks["reward"].w.weight.zero_()
        trainer.model.masks["reward"].w.bias.fill_(1)
    trainer.train()
    (text,) = warnings_of(caplog)
    assert "has had no zeros up to step 2" in text
