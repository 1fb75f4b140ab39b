"""How pairs are laid out, grouped and ordered for speed does not change what is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo import UserError
from sparsepo.training.trainer import POTrainer
from sparsepo.types import PackedBatch
from tests.invariant.test_equivalences import PLAIN
from tests.invariant.training import (
    StopAt,
    any_difference,
    assert_same_weights,
    history,
    make_trainer,
    steps,
)
from tests.invariant.training import state as weights_of
from tests.small_models import small_model, text_pairs

# Mask dropout is drawn in the order of the tokens: without it runs are comparable.
METHODS: list[dict[str, Any]] = [
    {"method": "dpo", **PLAIN},
    {"method": "sft", **PLAIN},
    {"method": "mapo", **PLAIN},
    {"method": "sparsepo-independent", "mask_dropout": 0.0, **PLAIN},
]
each_method = pytest.mark.parametrize("run", METHODS, ids=lambda run: run["method"])


class Watched(POTrainer):
    """Keeps the batches that it is given."""

    seen: list[PackedBatch]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        fields = {field.name for field in dataclasses.fields(PackedBatch)}
        packed = {name: value for name, value in inputs.items() if name in fields}
        self.seen.append(PackedBatch(**packed))
        return super().compute_loss(model, inputs, *args, **kwargs)


def trained(output: Path, **settings: Any) -> Watched:
    trainer: Any = make_trainer(output, **settings)
    trainer.__class__ = Watched
    trainer.seen = []
    trainer.train()
    watched: Watched = trainer
    return watched


def assert_same_curve(ours: POTrainer, expected: POTrainer) -> None:
    assert len(steps(ours)) == len(steps(expected)) > 1
    for mine, theirs in zip(steps(ours), steps(expected), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-6, abs=1e-6)
    assert_same_weights(weights_of(ours), weights_of(expected), 2e-6)


@each_method
def test_bucketed_micro_batches_are_the_drawn_ones_and_one_large_batch(
    tmp_path: Path, run: dict[str, Any]
) -> None:
    """22 pairs: two steps of 4 × 2 pairs, and one of 3 × 2."""
    run = {**run, "pairs": text_pairs(22)}
    large = trained(tmp_path, per_device_train_batch_size=8, **run)
    small = {**run, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    bucketed = trained(tmp_path, **small)
    drawn = trained(tmp_path, **small, length_bucketed=False)
    for other in (bucketed, drawn):
        assert_same_curve(other, large)
    assert any_difference(weights_of(large), weights_of(make_trainer(tmp_path, **run)))

    assert len(bucketed.seen) == len(drawn.seen) == 11
    for first, last in ((0, 4), (4, 8), (8, 11)):
        ours, theirs = bucketed.seen[first:last], drawn.seen[first:last]
        assert {p for b in ours for p in b.pair_ids} == {p for b in theirs for p in b.pair_ids}
        # What bucketing is for, and that it did something.
        cells = [sum(batch.input_ids.numel() for batch in batches) for batches in (ours, theirs)]
        assert cells[0] < cells[1]


@pytest.mark.parametrize("tokens_per_row", [80, 200])
@each_method
def test_long_rows_train_as_short_ones(
    tmp_path: Path, run: dict[str, Any], tokens_per_row: int
) -> None:
    short = trained(tmp_path, **run)
    long = trained(tmp_path, **run, tokens_per_row=tokens_per_row)
    assert_same_curve(long, short)
    rows = [sum(batch.input_ids.shape[0] for batch in t.seen) for t in (long, short)]
    assert rows[0] < rows[1]


def in_small_parts(output: Path, monkeypatch: pytest.MonkeyPatch, **run: Any) -> Watched:
    """Train with parts of at most 60 tokens, as on a CPU with a model that is large enough."""
    with monkeypatch.context() as patched:
        patched.setattr("sparsepo.training.micro_batches.tokens_at_once", lambda _config: 60)
        return trained(output, **run)


@pytest.mark.parametrize("accumulated", [1, 2])
@each_method
def test_micro_batches_in_parts_train_as_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: dict[str, Any], accumulated: int
) -> None:
    run = {**run, "pairs": text_pairs(22), "per_device_train_batch_size": 8 // accumulated,
           "gradient_accumulation_steps": accumulated}  # fmt: skip
    whole = trained(tmp_path, **run)
    parts = in_small_parts(tmp_path, monkeypatch, **run)
    assert_same_curve(parts, whole)
    # The same metrics too, whatever they are.
    for mine, theirs in zip(steps(parts), steps(whole), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
    sizes = [batch.input_ids.numel() for batch in parts.seen]
    assert len(sizes) > 2 * len(whole.seen)
    assert all(
        size <= 60 or len(b.pair_ids) == 1 for size, b in zip(sizes, parts.seen, strict=True)
    )
    assert sorted(p for b in parts.seen for p in b.pair_ids) == sorted(
        p for b in whole.seen for p in b.pair_ids
    )


@pytest.mark.parametrize(
    "whole",
    [{"method": "beta-dpo"}, {"method": "kto"}, {"method": "dpo", "computation": "plain"}],
    ids=lambda run: "-".join(run.values()),
)
def test_what_needs_a_whole_step_and_the_reference_implementation_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
) -> None:
    run = {**whole, "pairs": text_pairs(12), "per_device_train_batch_size": 6}
    assert [len(b.pair_ids) for b in in_small_parts(tmp_path, monkeypatch, **run).seen] == [6, 6]


@pytest.mark.parametrize("which", ["all", "non_padding"])
def test_tokens_of_parts_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    run = {"method": "dpo", "include_num_input_tokens_seen": which}
    parts = in_small_parts(tmp_path, monkeypatch, **run)
    seen = parts.state.num_input_tokens_seen
    assert seen == sum(
        b.input_ids.numel() if which == "all" else int((b.part >= 0).sum()) for b in parts.seen
    )
    if which == "non_padding":
        assert seen == trained(tmp_path, **run).state.num_input_tokens_seen


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
def test_resumed_is_uninterrupted_in_every_order(tmp_path: Path, strategy: str) -> None:
    """Bit for bit, in the middle of the second epoch, which another order begins."""
    run: dict[str, Any] = {
        "method": "sparsepo-common", "mask_dropout": 0.2, "pairs": text_pairs(22),
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4,
        "train_sampling_strategy": strategy, "save_strategy": "steps", "save_steps": 1,
        "num_train_epochs": 2,
    }  # fmt: skip
    whole = trained(tmp_path / "whole", **run)
    assert whole.state.global_step == 6
    broken = make_trainer(tmp_path / "broken", **run, callbacks=[StopAt(4)])
    with pytest.raises(InterruptedError):
        broken.train()
    torch.manual_seed(999)
    resumed: Any = make_trainer(tmp_path / "broken", **run)
    resumed.__class__ = Watched
    resumed.seen = []
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(weights_of(resumed), weights_of(whole))
    assert history(resumed)[:-1] == history(whole)[:-1]
    orders = [[batch.pair_ids for batch in trainer.seen] for trainer in (resumed, whole)]
    # Step 5 and 6: four and three micro-batches.
    assert orders[0] == orders[1][-7:]
    assert (orders[1][:11] == orders[1][11:]) == (strategy == "sequential")


def test_group_by_length_puts_similar_pairs_together(tmp_path: Path) -> None:
    run = {"method": "dpo", "pairs": text_pairs(96), "per_device_train_batch_size": 4}
    drawn = trained(tmp_path, **run)
    grouped = trained(tmp_path, **run, train_sampling_strategy="group_by_length")
    cells = [sum(batch.input_ids.numel() for batch in t.seen) for t in (grouped, drawn)]
    assert cells[0] < cells[1]
    assert sorted(p for batch in grouped.seen for p in batch.pair_ids) == sorted(
        p for batch in drawn.seen for p in batch.pair_ids
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_data_loading_processes_change_nothing(tmp_path: Path, workers: int) -> None:
    run = {"method": "dpo", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    alone = trained(tmp_path, **run)
    helped = trained(tmp_path, **run, dataloader_num_workers=workers)
    assert_same_weights(weights_of(helped), weights_of(alone))


@pytest.mark.parametrize("method", ["dpo", "sparsepo-common", "mapo"])
def test_scores_come_in_order_whatever_the_batches(tmp_path: Path, method: str) -> None:
    trainer = make_trainer(tmp_path, method)
    pairs = text_pairs(11, seed=3)
    alone = [trainer.score_pairs([pair])[0] for pair in pairs]
    assert [score.pair_id for score in alone] == [pair.pair_id for pair in pairs]
    for size in (1, 3, 20):
        scores = trainer.score_pairs(pairs, batch_size=size)
        assert [score.pair_id for score in scores] == [pair.pair_id for pair in pairs]
        for ours, expected in zip(scores, alone, strict=True):
            assert ours.chosen_reward == pytest.approx(expected.chosen_reward, abs=2e-6)
            assert ours.rejected_reward == pytest.approx(expected.rejected_reward, abs=2e-6)


def test_the_attention_is_the_one_that_was_chosen(tmp_path: Path) -> None:
    runs = {name: trained(tmp_path, method="dpo", architecture="llama", attention=name, **PLAIN)
            for name in ("sdpa", "eager", "auto")}  # fmt: skip
    for name, trainer in runs.items():
        expected = "sdpa" if name == "auto" else name
        assert trainer.policy.config._attn_implementation == expected
        assert trainer.reference is not None
        assert trainer.reference.model.config._attn_implementation == expected
        assert_same_curve(trainer, runs["sdpa"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens_per_row": 0}, "tokens_per_row must be at least 1"),
        ({"tokens_per_row": 100, "computation": "plain"}, "plain uses no tokens_per_row"),
        ({"train_sampling_strategy": "batch_rebalance"}, "use group_by_length"),
        ({"attention": "flex_attention"}, "no gradients on a CPU; set attention=auto"),
        ({"attention": "flash"}, "Choose one of: auto, eager, sdpa, flex_attention"),
        ({"attention": "sdpa", "model": small_model("gptj")}, "gptj has no sdpa"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, **{"method": "dpo", "architecture": "llama", **settings})
