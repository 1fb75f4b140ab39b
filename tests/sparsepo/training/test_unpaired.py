"""Training on unpaired rows, which have one response and a label each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import Tensor

from sparsepo import POTrainer, UserError, get_method
from sparsepo.batches.pack import pack_pairs
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.cli.main import main
from sparsepo.methods import BUILT_IN
from sparsepo.types import PreferencePair, TokenizedPair, TokenStats
from tests.small_methods import MAX_LENGTH, config_of
from tests.small_models import small_model, small_tokenizer, text_pairs

UNPAIRED = [name for name, method in BUILT_IN.items() if method.unpaired]


def split(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Return both responses of each pair as unpaired rows, one after the other."""
    return [
        half
        for pair in pairs
        for half in (
            replace(pair, pair_id=f"{pair.pair_id}+", rejected="", label=True),
            replace(pair, pair_id=f"{pair.pair_id}-", chosen="", label=False),
        )
    ]


def rows_of(pairs: Sequence[PreferencePair]) -> list[dict[str, Any]]:
    return [
        {"prompt": p.prompt, "completion": p.chosen or p.rejected, "label": p.label} for p in pairs
    ]


def tokenized(pairs: Sequence[PreferencePair]) -> list[TokenizedPair]:
    return tokenize_pairs(pairs, small_tokenizer(), max_length=MAX_LENGTH).pairs


def trainer_of(folder: Path, method: str, data: Any, **options: Any) -> POTrainer:
    eval_dataset = options.pop("eval_dataset", None)
    steps = {"per_device_train_batch_size": 6, "max_steps": 3}
    config = config_of(folder, method, **{**steps, **options})
    return POTrainer(
        small_model("gpt2", seed=1),
        ref_model=small_model("gpt2", seed=0 if not config.check_reference else 1),
        args=config,
        train_dataset=data,
        eval_dataset=eval_dataset,
        processing_class=small_tokenizer(),
    )


def test_exactly_the_methods_whose_loss_is_a_mean_over_responses_take_them() -> None:
    assert UNPAIRED == ["kto", "bco"]


# Values


def test_tokens_are_those_of_the_pair() -> None:
    pairs = text_pairs(3)
    whole, halves = tokenized(pairs), tokenized(split(pairs))
    for pair, good, bad in zip(whole, halves[::2], halves[1::2], strict=True):
        assert good.prompt_ids == bad.prompt_ids == pair.prompt_ids
        assert (good.chosen_ids, good.rejected_ids) == (pair.chosen_ids, [])
        assert (bad.chosen_ids, bad.rejected_ids) == ([], pair.rejected_ids)
        assert (pair.label, good.label, bad.label) == (None, True, False)


@pytest.mark.parametrize("share_prompt", [True, False])
def test_the_response_that_a_row_lacks_takes_no_place_in_a_batch(share_prompt: bool) -> None:
    halves = tokenized(split(text_pairs(2)))
    batch = pack_pairs(halves, share_prompt=share_prompt)
    assert batch.response_mask.any(-1).tolist() == [[True, False] * 2, [False, True] * 2]
    assert len(batch.targets) == sum(len(p.chosen_ids) + len(p.rejected_ids) for p in halves)
    # A pair that lacks a response without saying so is none.
    for broken in (replace(halves[0], chosen_ids=[]), replace(halves[0], label=None)):
        with pytest.raises(ValueError, match="without tokens"):
            pack_pairs([broken])
    with pytest.raises(ValueError, match="without tokens"):
        pack_pairs([halves[1]], rejected=False)


def drawn(rows: int, seed: int) -> TokenStats:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return TokenStats(
        policy_logps=draw(rows, 5).requires_grad_(),
        ref_logps=draw(rows, 5),
        kl=None,
        response_mask=torch.ones(rows, 5, dtype=torch.bool),
        mismatched_policy_logps=draw(rows),
        mismatched_ref_logps=draw(rows) - 1,
    )


def lacking(stats: TokenStats) -> TokenStats:
    """Return rows that lack this response: values there must not count."""
    return replace(stats, response_mask=torch.zeros_like(stats.response_mask))


def joined(first: TokenStats, second: TokenStats) -> TokenStats:
    both = {
        field.name: torch.cat([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(TokenStats)
        if getattr(first, field.name) is not None
    }
    return replace(first, **both)


@pytest.mark.parametrize(
    ("method", "values"),
    [("kto", {}), ("kto", {"desirable_weight": 1.3, "undesirable_weight": 0.7}), ("bco", {})],
)
def test_loss_gradients_and_state_are_those_of_the_same_responses_in_pairs(
    method: str, values: dict[str, float]
) -> None:
    loss = get_method(method, beta=0.3, **values)
    chosen, rejected = drawn(4, seed=1), drawn(4, seed=2)
    paired = loss(chosen, rejected)
    # The first four rows are desirable, the other four are not.
    single = loss(
        joined(chosen, lacking(drawn(4, seed=3))), joined(lacking(drawn(4, seed=4)), rejected)
    )
    torch.testing.assert_close(single.loss, paired.loss)
    torch.testing.assert_close(
        single.per_pair[:4] + single.per_pair[4:], 2 * paired.per_pair, rtol=1e-9, atol=1e-9
    )
    leaves = [chosen.policy_logps, rejected.policy_logps]
    for ours, expected in zip(
        torch.autograd.grad(single.loss, leaves),
        torch.autograd.grad(paired.loss, leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(single.state, paired.state)
    for name, values_of_pairs in paired.metrics.items():
        torch.testing.assert_close(single.metrics[name][:4], values_of_pairs)


@pytest.mark.parametrize("computation", ["packed", "plain"])
@pytest.mark.parametrize("method", UNPAIRED)
def test_a_step_on_rows_is_the_step_on_their_pairs(
    method: str, computation: str, tmp_path: Path
) -> None:
    # Both responses of a prompt follow each other: the next other prompt is that of the next pair.
    pairs = text_pairs(4)
    options = {"check_reference": False, "computation": computation}
    steps = []
    for data in (pairs, split(pairs)):
        trainer = trainer_of(tmp_path, method, data, **options)
        (sample,), count = trainer.hook_step([{"pairs": tokenized(data)}], torch.device("cpu"))
        loss = trainer.compute_loss(trainer.model, sample, num_items_in_batch=count)
        loss.backward()
        steps.append([loss.detach(), *(p.grad for p in trainer.policy.parameters())])
    assert steps[0][0] > 0.01
    for ours, expected in zip(*steps, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


# Training


def mixed() -> list[PreferencePair]:
    """Return 12 rows of different prompts, with as many desirable as undesirable ones."""
    return [pair for n, pair in enumerate(split(text_pairs(12))) if n % 4 in (0, 3)]


@pytest.mark.parametrize("method", UNPAIRED)
@pytest.mark.parametrize("kind", ["rows", "dataset", "stream"])
def test_rows_are_trained_on_and_evaluated(method: str, kind: str, tmp_path: Path) -> None:
    rows = rows_of(mixed())
    data: Any = rows
    if kind != "rows":
        data = datasets.Dataset.from_list(rows)
    if kind == "stream":
        data = data.to_iterable_dataset()
    trainer = trainer_of(tmp_path, method, data, eval_dataset=rows_of(split(text_pairs(4, seed=3))))
    start = {name: value.clone() for name, value in trainer.policy.state_dict().items()}
    trainer.train()
    assert any(not v.equal(start[n]) for n, v in trainer.policy.state_dict().items())
    entry = next(e for e in reversed(trainer.state.log_history) if "loss" in e)
    assert {"rewards/chosen", "rewards/rejected", "logps/chosen"} <= entry.keys()
    assert not {"rewards/margins", "rewards/accuracies"} & entry.keys()
    found = trainer.evaluate()
    assert found["eval_rewards/chosen"] != found["eval_rewards/rejected"]
    assert found["eval_kl/chosen"] > 0 and "eval_rewards/margins" not in found


def test_means_are_over_the_rows_that_have_the_response(tmp_path: Path) -> None:
    pairs = text_pairs(6)
    trainer = trainer_of(tmp_path, "bco", pairs, check_reference=False)
    whole = {score.pair_id: score for score in trainer.score_pairs(pairs)}
    # Three rows of one kind, one of the other.
    halves = [half for half in split(pairs) if half.pair_id[:-1] in ("pair-1", "pair-2")]
    halves.append(split(pairs)[0])
    scores = trainer.score_pairs(halves)
    assert [score.label for score in scores] == [True, False, True, False, True]
    for score in scores:
        of_pair = whole[score.pair_id[:-1]]
        if score.label:
            assert score.chosen_logps == pytest.approx(of_pair.chosen_logps, rel=1e-5)
            assert score.chosen_reward == pytest.approx(of_pair.chosen_reward, rel=1e-4)
            assert math.isnan(score.rejected_reward) and score.rejected_kl is None
        else:
            assert score.rejected_reward == pytest.approx(of_pair.rejected_reward, rel=1e-4)
            assert math.isnan(score.chosen_logps) and score.chosen_kl is None
    mean = trainer.evaluate(halves)["eval_rewards/chosen"]
    own = [whole[name].chosen_reward for name in ("pair-0", "pair-1", "pair-2")]
    assert mean == pytest.approx(sum(own) / 3, rel=1e-4)


def test_logged_means_are_over_the_rows_that_have_the_response(tmp_path: Path) -> None:
    rows = mixed()[:6]
    trainer = trainer_of(tmp_path, "kto", rows, max_steps=1, check_reference=False)
    expected = [s.chosen_logps for s in trainer.score_pairs(rows) if s.label]
    trainer.train()
    (entry,) = (e for e in trainer.state.log_history if "loss" in e)
    assert entry["logps/chosen"] == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_the_reference_cache_holds_single_responses(tmp_path: Path) -> None:
    rows = mixed()
    online = trainer_of(tmp_path, "bco", rows).score_pairs(rows)
    cache = str(tmp_path / "cache")
    cached = trainer_of(tmp_path, "bco", rows, reference_cache=cache)
    cached.train()
    again = trainer_of(tmp_path, "bco", rows, reference_cache=cache)
    assert [s.loss for s in again.score_pairs(rows)] == pytest.approx([s.loss for s in online])


def test_the_command_trains_on_a_file_of_chat_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = tmp_path / "model", tmp_path / "rows.jsonl"
    small_model("gpt2").save_pretrained(model)
    small_tokenizer().save_pretrained(model)
    rows = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
            "label": row["label"],
        }
        for row in rows_of(mixed())
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(method: str) -> list[str]:
        return [
            "train", "--model", str(model), "--data", str(file), "--output", str(tmp_path / method),
            "--method", method, "--eval-share", "0.25", "--set", "max_steps=2", "use_cpu=true",
            "per_device_train_batch_size=4", "save_strategy=no", "max_length=120",
        ]  # fmt: skip

    assert main(command("kto")) == 0
    assert "12 of 12 rows kept" in capsys.readouterr().err
    assert (tmp_path / "kto" / "model.safetensors").is_file()
    assert "Trained on 9 unpaired rows" in (tmp_path / "kto" / "README.md").read_text()
    assert main(command("dpo")) == 2
    assert "only the methods for unpaired data train on" in capsys.readouterr().err


# Refused


def test_methods_that_compare_responses_refuse_unpaired_rows(tmp_path: Path) -> None:
    rows = [*text_pairs(2), *split(text_pairs(3, seed=4))]
    with pytest.raises(UserError, match=r"'dpo' compares .* but 6 of 8 rows have only one"):
        trainer_of(tmp_path, "dpo", rows)
    with pytest.raises(UserError, match=r"only the methods for unpaired data"):
        trainer_of(tmp_path, "dpo", rows_of(split(text_pairs(3))))
    stream = iter(split(text_pairs(8)))
    with pytest.raises(UserError, match="'dpo' compares"):
        trainer_of(tmp_path, "dpo", stream)


@pytest.mark.parametrize("label", [True, False])
def test_labels_that_are_all_the_same_are_refused(label: bool, tmp_path: Path) -> None:
    rows = [row for row in split(text_pairs(4)) if row.label is label]
    with pytest.raises(UserError, match=f"All 4 training rows have the label {str(label).lower()}"):
        trainer_of(tmp_path, "kto", rows)
    trainer = trainer_of(tmp_path, "kto", mixed())
    assert len(trainer.score_pairs(rows)) == 4


def test_weights_that_do_not_balance_the_labels_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row for n, row in enumerate(split(text_pairs(8))) if row.label or n % 4 == 1]
    trainer_of(tmp_path, "kto", rows)
    assert "8 desirable rows of weight 1 and 4 undesirable rows of weight 1 have the ratio 2;" in (
        caplog.text
    )
    caplog.clear()
    trainer_of(tmp_path, "kto", rows, method_args={"undesirable_weight": 1.5})
    trainer_of(tmp_path, "bco", rows)
    trainer_of(tmp_path, "kto", text_pairs(4), method_args={"undesirable_weight": 5.0})
    assert "desirable rows" not in caplog.text
