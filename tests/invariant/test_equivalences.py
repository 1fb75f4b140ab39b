"""Two ways to the same training run: accumulation, packing, checkpointing, one seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sparsepo
from sparsepo.batches.pack import pack_pairs
from sparsepo.methods import PAPER
from sparsepo.training.trainer import POTrainer
from sparsepo.types import PackedBatch
from tests.invariant.training import (
    any_difference,
    assert_same_weights,
    make_trainer,
    state,
    steps,
)
from tests.small_models import ALL_ARCHITECTURES, PAPER_ARCHITECTURES, small_model, text_pairs

# AdamW divides by the gradient's size, so that a difference of 1e-9 in a gradient of about 0 would
# become one of the learning rate's size; SGD keeps differences as small as they are.
PLAIN = {"optim": "sgd", "learning_rate": 1e-2, "lr_scheduler_type": "constant"}


def trained(tmp_path: Path, method: str, **settings: Any) -> POTrainer:
    trainer = make_trainer(tmp_path, method, **settings)
    trainer.train()
    return trainer


def assert_same_logs(ours: POTrainer, expected: POTrainer, tolerance: float) -> None:
    assert len(steps(ours)) == len(steps(expected)) > 0
    for mine, wanted in zip(steps(ours), steps(expected), strict=True):
        # transformers counts a part of an epoch in micro-batches, whole ones or not.
        mine["epoch"] = wanted["epoch"]
        assert mine == pytest.approx(wanted, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(
    ("method", "size", "accumulated"),
    [
        ("sft", 4, 2),
        ("dpo", 1, 8),
        ("mapo", 3, 3),
        ("sparsepo-common", 4, 2),
        ("sparsepo-common", 1, 8),
    ],
)
def test_gradient_accumulation_is_the_large_batch(
    tmp_path: Path, method: str, size: int, accumulated: int
) -> None:
    """Same curve and weights, also in the last step, which is not full."""
    settings: dict[str, Any] = {**PLAIN, "pairs": text_pairs(20)}
    if method == "sparsepo-common":
        # Dropout draws by the shape of the batch, so it must be off to compare.
        settings |= {"mask_dropout": 0.0, "l1_reward": 1e-3, "l1_kl": 1e-3}
    large = trained(tmp_path, method, per_device_train_batch_size=size * accumulated, **settings)
    small = trained(
        tmp_path,
        method,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulated,
        **settings,
    )
    assert len(steps(large)) == 3
    assert_same_logs(small, large, 1e-4)
    assert_same_weights(state(small), state(large), 2e-6)
    assert any_difference(state(small), state(make_trainer(tmp_path, method, **settings)))


@pytest.mark.parametrize(
    "method", [n for n, cls in sparsepo.available_methods().items() if not cls.needs.from_outside]
)
def test_a_packed_step_is_the_padded_step(tmp_path: Path, method: str) -> None:
    """[prompt | chosen | rejected] in one row trains as a row for each response does.

    Dropout of the masks is on: it is drawn per response token, in the same order in both forms.
    """

    class Padded(POTrainer):
        def _pack(self, pairs: list[Any], rejected: bool = True) -> PackedBatch:
            return pack_pairs(pairs, share_prompt=False, rejected=rejected)

    packed = trained(tmp_path, method, **PLAIN)
    padded = make_trainer(tmp_path, method, **PLAIN)
    padded.__class__ = Padded
    assert padded._pack(padded.train_dataset[:2], False).input_ids.shape[0] == 2
    padded.train()
    assert_same_logs(padded, packed, 1e-3)
    assert_same_weights(state(padded), state(packed), 1e-5)


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
def test_recomputed_activations_train_the_same(tmp_path: Path, architecture: str) -> None:
    plain = trained(tmp_path, "sparsepo-common", architecture=architecture, **PLAIN)
    model = small_model(architecture)
    again = make_trainer(
        tmp_path, "sparsepo-common", model=model, activation_checkpointing=True, **PLAIN
    )
    again.train()
    assert model.is_activation_checkpointing
    assert_same_logs(again, plain, 1e-5)
    assert_same_weights(state(again), state(plain), 1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "sparsepo-independent"},
        {"method": "sparsepo-independent", "mask_kind": "random"},
        {"method": "sparsepo-common", "mask_layers": "last", "mask_feed_forward": 2},
        {"method": "mapo"},
    ],
    ids=str,
)
def test_a_seed_is_a_run(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The same seed gives the same run, another one another run."""
    first, same, other = (trained(tmp_path, **settings, seed=seed) for seed in (7, 7, 8))
    assert_same_weights(state(same), state(first))
    assert steps(same) == steps(first)
    assert any_difference(state(other), state(first))
    assert steps(other) != steps(first)


def test_random_masks_are_drawn_anew_each_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "sparsepo-independent", mask_kind="random")
    module = trainer.model
    batch = pack_pairs(trainer.train_dataset[:3])
    states = trainer.reference.read(batch, trainer.method, trainer.needs)
    drawn = []
    for _ in range(2):
        chosen, rejected = module(batch, states, trainer.needs)
        drawn += [chosen.reward_mask, chosen.kl_mask]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert not list(module.masks.parameters())
    assert rejected is not None


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_the_policys_own_dropout_is_off(tmp_path: Path, architecture: str) -> None:
    """In training mode it is the reference's equal, whatever its configuration says."""
    rates = {
        "gpt2": ("attn_pdrop", "embd_pdrop", "resid_pdrop"),
        "gpt_bigcode": ("attn_pdrop", "embd_pdrop", "resid_pdrop"),
        "gptj": ("attn_pdrop", "embd_pdrop", "resid_pdrop"),
        "gpt_neox": ("attention_dropout", "hidden_dropout"),
    }.get(architecture, ("attention_dropout",))
    changes = dict.fromkeys(rates, 0.5)
    noisy = small_model(architecture, **changes).train()
    ids = torch.arange(1, 20)[None]
    assert not torch.equal(noisy(ids).logits, noisy(ids).logits)
    trainer = make_trainer(tmp_path, "tdpo1", model=small_model(architecture, **changes))
    trainer.train()
    assert steps(trainer)[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert trainer.policy.training or trainer.model.training


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("method", PAPER)
def test_one_epoch_of_every_method_on_every_architecture(
    tmp_path: Path, method: str, architecture: str
) -> None:
    """It starts at its step-0 value, moves policy and masks, and ranks better than before."""
    trainer = make_trainer(tmp_path, method, architecture=architecture, num_train_epochs=2)
    before = state(trainer)
    margin_before = margins(trainer)
    trainer.train()
    logged = steps(trainer)
    if trainer.needs.ref_logps:
        assert logged[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert len(logged) == 6
    for entry in logged:
        assert all(isinstance(v, float | int) and v == v for v in entry.values()), entry
    after = state(trainer)
    for part in ("policy.", *(f"masks.{name}." for name in trainer.model.masks)):
        changed = {n for n in before if n.startswith(part) and not torch.equal(before[n], after[n])}
        assert changed, f"{part} did not move"
    if trainer.needs.rejected:
        assert margins(trainer) > margin_before


def margins(trainer: POTrainer) -> float:
    scores = trainer.score_pairs(text_pairs(12))
    return sum(score.chosen_reward - score.rejected_reward for score in scores) / len(scores)


def test_half_precision_trains_with_masks_in_float32(tmp_path: Path) -> None:
    model = small_model("llama").to(torch.bfloat16)
    trainer = make_trainer(tmp_path, "sparsepo-independent", model=model)
    before = state(trainer)
    trainer.train()
    assert {p.dtype for p in trainer.policy.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in trainer.model.masks.parameters()} == {torch.float32}
    assert any_difference(state(trainer), before)
    assert steps(trainer)[0]["loss"] == pytest.approx(0.693, abs=0.02)
