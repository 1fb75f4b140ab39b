"""Training with given masks: the loss of SparsePO with just these masks, and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparsepo import POTrainer, PreferencePair, UserError
from sparsepo.analysis import masks_of, token_maps
from sparsepo.analysis.trained import TrainedModel, load_trained
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.data.token_masks import TokenMask, Weights, write_token_masks
from sparsepo.types import TokenizedPair
from tests.invariant.training import assert_same_weights, make_trainer, state, steps
from tests.small_models import small_model, small_tokenizer, text_pairs

GIVEN: dict[str, Any] = {"mask_kind": "given"}


def tokenized(pairs: Sequence[PreferencePair]) -> list[TokenizedPair]:
    return tokenize_pairs(pairs, small_tokenizer(), 64, None, "error").pairs


def written(
    folder: Path,
    value: Callable[[], float],
    *,
    independent: bool = True,
    pairs: Sequence[PreferencePair] | None = None,
) -> str:
    """Write masks for pairs, `value()` for each token; return the file."""
    file = folder / "masks.jsonl"

    def weights(pair: TokenizedPair) -> Weights:
        return [value() for _ in pair.chosen_ids], [value() for _ in pair.rejected_ids]

    masks = [
        TokenMask(pair.pair_id, weights(pair), weights(pair) if independent else None)
        for pair in tokenized(text_pairs(12) if pairs is None else pairs)
    ]
    write_token_masks(masks, file)
    return str(file)


def losses(trainer: POTrainer, *names: str) -> list[dict[str, float]]:
    return [{name: entry[name] for name in ("loss", *names)} for entry in steps(trainer)]


@pytest.mark.parametrize("method", ["sparsepo-common", "sparsepo-independent"])
@pytest.mark.parametrize("computation", ["packed", "plain"])
def test_masks_of_ones_train_as_tdpo_does(tmp_path: Path, method: str, computation: str) -> None:
    file = written(tmp_path, lambda: 1.0, independent=method == "sparsepo-independent")
    settings: dict[str, Any] = {"computation": computation, "beta": 0.3}
    ours = make_trainer(tmp_path, method, **GIVEN, token_masks=file, **settings)
    expected = make_trainer(tmp_path, "tdpo1", **settings)
    for trainer in (ours, expected):
        trainer.train()
    names = ("rewards/margins", "kl/chosen", "grad_norm")
    assert losses(ours, *names) == losses(expected, *names)
    assert_same_weights(state(ours), state(expected))
    assert all(entry["sparsity/reward/chosen"] == 0 for entry in steps(ours))


@pytest.mark.parametrize("method", ["sparsepo-common", "sparsepo-independent"])
def test_a_learned_mask_that_is_given_has_the_loss_of_its_own_run(
    tmp_path: Path, method: str
) -> None:
    # At a rate of 0 the masks stay as they are for the whole run.
    constant: dict[str, Any] = {
        "mask_learning_rate": 0.0, "mask_weight_decay": 0.0, "mask_dropout": 0.0,
        "mask_initial_sparsity": 50.0,
    }  # fmt: skip
    learned = make_trainer(tmp_path, method, **constant, num_train_epochs=2)
    trained = TrainedModel(
        learned._module, learned.method, small_tokenizer(), learned.reference, "policy"
    )
    masks = masks_of(token_maps(trained, text_pairs(12), max_length=64).maps)
    assert 0.2 < sum(v == 0 for m in masks for v in m.reward_mask[0]) / sum(
        len(m.reward_mask[0]) for m in masks
    ) < 0.8  # fmt: skip
    assert (masks[0].kl_mask is None) == (method == "sparsepo-common")
    write_token_masks(masks, tmp_path / "masks.jsonl")
    given = make_trainer(
        tmp_path, method, **GIVEN, token_masks=str(tmp_path / "masks.jsonl"), num_train_epochs=2
    )
    for trainer in (learned, given):
        trainer.train()
    names = ("rewards/margins", "sparsity/reward/chosen", "sparsity/kl/rejected", "kl/rejected")
    for ours, theirs in zip(losses(given, *names), losses(learned, *names), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    policy = {n: v for n, v in state(learned).items() if not n.startswith("masks.")}
    assert_same_weights(state(given), policy, tolerance=1e-4)


def test_zeros_leave_the_model_as_it_is_and_other_values_do_not(tmp_path: Path) -> None:
    before = state(make_trainer(tmp_path, "tdpo1"))
    zeros = make_trainer(
        tmp_path, **GIVEN, token_masks=written(tmp_path, lambda: 0.0), weight_decay=0.0
    )
    zeros.train()
    assert_same_weights(state(zeros), before)
    draw = random.Random(0).random
    other = make_trainer(tmp_path, **GIVEN, token_masks=written(tmp_path, draw))
    other.train()
    with pytest.raises(AssertionError):
        assert_same_weights(state(other), before)


def test_held_out_pairs_are_evaluated_with_their_masks(tmp_path: Path) -> None:
    pairs = text_pairs(16)
    file = written(tmp_path, lambda: 1.0, pairs=pairs)
    data: dict[str, Any] = {"pairs": pairs[:12], "eval_pairs": pairs[12:]}
    ours = make_trainer(tmp_path, **GIVEN, token_masks=file, **data).evaluate()
    expected = make_trainer(tmp_path, "tdpo1", **data).evaluate()
    assert ours["eval_loss"] == expected["eval_loss"]
    trainer = make_trainer(tmp_path, **GIVEN, token_masks=file, pairs=pairs[:12])
    with pytest.raises(UserError, match=r"lacks the masks of 1 of 1 pairs \(new\)"):
        trainer.score_pairs([replace(pairs[0], pair_id="new")])


def test_a_model_that_was_given_masks_saves_none_and_has_no_token_maps(tmp_path: Path) -> None:
    start, output = tmp_path / "start", tmp_path / "model"
    for part in (small_model("gpt_neox"), small_tokenizer()):
        part.save_pretrained(start)
    trainer = make_trainer(tmp_path, **GIVEN, token_masks=written(tmp_path, lambda: 1.0))
    trainer.train()
    trainer.save_model(str(output))
    assert not (output / "masks.safetensors").exists()
    assert json.loads((output / "method.json").read_text())["hyper_parameters"]["mask_kind"] == (
        "given"
    )
    trained = load_trained(output, reference=start)
    with pytest.raises(UserError, match="was trained with given masks"):
        token_maps(trained, text_pairs(2), max_length=64)
    without = replace(trained, method=make_trainer(tmp_path, "tdpo1").method)
    with pytest.raises(UserError, match="has no masks; give a model that a masked method"):
        masks_of(token_maps(without, text_pairs(2), max_length=64).maps)


def test_a_run_is_resumed_only_with_the_same_masks(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**GIVEN, "save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path, token_masks=written(tmp_path, lambda: 1.0), **settings).train()
    again = make_trainer(tmp_path, token_masks=written(tmp_path, lambda: 1.0), **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    other = make_trainer(tmp_path, token_masks=written(tmp_path, lambda: 0.5), **settings)
    with pytest.raises(UserError, match="other token_masks; use the same file"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def drop_a_row(rows: list[dict[str, Any]]) -> None:
    del rows[3]


def drop_a_value(rows: list[dict[str, Any]]) -> None:
    rows[0]["kl_mask"]["rejected"].pop()


def drop_kl(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        del row["kl_mask"]


@pytest.mark.parametrize(
    ("change", "method", "message"),
    [
        (drop_a_row, "sparsepo-independent", r"lacks the masks of 1 of 12 pairs \("),
        (drop_a_value, "sparsepo-independent", r"kl_mask of pair \S+ has \d+ values for the rej"),
        (drop_kl, "sparsepo-independent", "has no kl_mask, which sparsepo-independent needs"),
        (None, "sparsepo-common", "has a kl_mask, which sparsepo-common does not use"),
    ],
)
def test_masks_that_do_not_fit_the_data_are_one_sentence(
    tmp_path: Path, change: Callable[[Any], None] | None, method: str, message: str
) -> None:
    file = Path(written(tmp_path, lambda: 1.0))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    if change is not None:
        change(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=message) as found:
        make_trainer(tmp_path, method, **GIVEN, token_masks=str(file))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("dpo", {"token_masks": "FILE"}, "Method 'dpo' does not read token_masks here; leave"),
        ("sparsepo-common", {"token_masks": "FILE"}, "set mask_kind=given, or leave token_masks"),
        ("sparsepo-common", {"mask_kind": "given"}, "mask_kind=given needs token_masks"),
        (
            "sparsepo-common",
            {"mask_kind": "given", "token_masks": "FILE", "l1_reward": 0.1},
            "have no effect on given masks",
        ),
        ("sparsepo-common", {**GIVEN, "token_masks": "nowhere.jsonl"}, "does not exist"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, method: str, settings: dict[str, Any], message: str
) -> None:
    file = written(tmp_path, lambda: 1.0, independent=False)
    settings = {name: file if value == "FILE" else value for name, value in settings.items()}
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, method, **settings)


def test_a_stream_has_no_masks(tmp_path: Path) -> None:
    def stream() -> Iterator[dict[str, Any]]:
        yield {"prompt": "a", "chosen": "b", "rejected": "c"}

    file = written(tmp_path, lambda: 1.0)
    with pytest.raises(UserError, match="token_masks needs all pairs before training"):
        make_trainer(tmp_path, **GIVEN, token_masks=file, max_steps=1, pairs=stream())  # type: ignore[arg-type]
