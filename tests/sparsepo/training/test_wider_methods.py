"""What the trainer provides for methods beyond the paper's: state, data, further models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from sparsepo import POConfig, UserError
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.data.pairs import pairs_of_rows
from sparsepo.methods import BUILT_IN, PAPER
from sparsepo.training.mismatched import mismatched
from sparsepo.types import PreferencePair, TokenizedPair
from tests.small_methods import MAX_LENGTH, ON_PAIRS, judged, trainer_of
from tests.small_models import small_model, small_tokenizer

WIDER = [name for name in ON_PAIRS if name not in PAPER]
STATEFUL = [name for name in WIDER if BUILT_IN[name]().initial_state()]


@pytest.mark.parametrize("method", WIDER)
def test_every_method_trains_and_scores(method: str, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, method)
    start = {name: value.clone() for name, value in trainer.policy.state_dict().items()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 4 and all(abs(loss) < 1e8 for loss in losses)
    moved = [n for n, value in trainer.policy.state_dict().items() if not value.equal(start[n])]
    assert moved
    scores = trainer.score_pairs(judged(5, seed=2) if not _needs_ids(method) else judged(12)[:5])
    assert len(scores) == 5


def _needs_ids(method: str) -> bool:
    # Weights are given for the training pairs only; further models know pairs by id.
    needs = BUILT_IN[method].needs
    return bool(needs.token_weights or needs.models)


# State


@pytest.mark.parametrize("method", STATEFUL)
def test_a_resumed_run_ends_as_an_uninterrupted_one(method: str, tmp_path: Path) -> None:
    whole = trainer_of(tmp_path / "a", method)
    whole.train()
    (tmp_path / "b").mkdir()
    first = trainer_of(tmp_path / "b", method, save_strategy="steps", save_steps=2)
    first.train()
    checkpoint = tmp_path / "b" / "out" / "checkpoint-2"
    assert load_file(checkpoint / "method_state.safetensors").keys() == first._method_state.keys()
    again = trainer_of(tmp_path / "b", method, save_strategy="steps", save_steps=2)
    again.train(resume_from_checkpoint=str(checkpoint))
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name]), name
    for name, value in whole._method_state.items():
        assert torch.equal(value, again._method_state[name])
        assert float(value) != 0 or name == "step"


# Steps


@pytest.mark.parametrize("method", [n for n in WIDER if BUILT_IN[n].needs.whole_step])
def test_a_step_that_must_be_whole_is_not_split(method: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs all pairs of a step at once"):
        trainer_of(tmp_path, method, gradient_accumulation_steps=2)
    with pytest.raises(UserError, match="per_device_train_batch_size to 2"):
        trainer_of(tmp_path, method, per_device_train_batch_size=1)


@pytest.mark.parametrize("method", ["cpo", "orpo", "slic"])
def test_a_mean_over_the_tokens_of_a_batch_is_not_split(method: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs all pairs of a step at once"):
        trainer_of(tmp_path, method, method_args={"nll": "batch"}, gradient_accumulation_steps=2)
    trainer_of(tmp_path, method, gradient_accumulation_steps=2).train()


@pytest.mark.parametrize("method", ["tis-dpo-kl", "ti-dpo", "kto"])
def test_both_computations_train_the_same(method: str, tmp_path: Path) -> None:
    losses = []
    for computation in ("packed", "plain"):
        trainer = trainer_of(tmp_path, method, computation=computation, learning_rate=3e-3)
        trainer.train()
        losses.append([e["loss"] for e in trainer.state.log_history if "loss" in e])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert abs(losses[0][0] - losses[0][-1]) > 1e-3


# Further models


@pytest.mark.parametrize(("method", "name"), [("tgdpo", "oracle"), ("inpo", "history")])
def test_a_further_model_must_be_given(method: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{method}' needs .*--{name} DIR"):
        trainer_of(tmp_path, method, models={})


def test_a_further_model_that_is_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'dpo' reads no oracle model; leave oracle out"):
        trainer_of(tmp_path, "dpo", models={"oracle": small_model("gpt2")})


def test_an_oracle_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    other = small_model("gpt2", vocab_size=small_model("gpt2").config.vocab_size + 8)
    with pytest.raises(UserError, match="different vocabularies"):
        trainer_of(tmp_path, "sepo", models={"oracle": other})


def test_an_oracles_values_are_those_of_its_own_forward_pass(tmp_path: Path) -> None:
    oracle = small_model("gpt2", seed=7)
    trainer = trainer_of(tmp_path, "tgdpo", models={"oracle": oracle})
    pairs = tokenize_pairs(judged(12), small_tokenizer(), max_length=MAX_LENGTH).pairs[:3]
    batch = trainer._pack(pairs, rejected=True)
    assert trainer._third_models is not None
    values = trainer._third_models.of_batch(batch)["oracle_logps"]
    for place, pair in enumerate(pairs):
        for side, ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
            expected = plain_logps(oracle, pair.prompt_ids, ids)
            torch.testing.assert_close(
                values[side, place, : len(ids)], expected, rtol=1e-4, atol=1e-4
            )
            assert not values[side, place, len(ids) :].any()


def test_callbacks_are_told_how_far_the_further_models_are(tmp_path: Path) -> None:
    class Told(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def on_third_models(self, done: int, total: int) -> None:
            self.seen.append((done, total))

    told = Told()
    models = {"oracle": small_model("gpt2", seed=5), "anti": small_model("gpt2", seed=6)}
    trainer = trainer_of(tmp_path, "tis-dpo-kl", data=judged(20), models=models, callbacks=[told])
    assert len(told.seen) == 2 and told.seen[-1] == (20, 20) and told.seen[0][1] == 20
    trainer.score_pairs(judged(20)[:5])
    assert len(told.seen) == 2
    new = [replace(pair, pair_id=f"new-{pair.pair_id}") for pair in judged(3, seed=9)]
    trainer.score_pairs(new)
    assert told.seen[2:] == [(3, 3)]


def test_a_further_model_that_is_broken_is_named(tmp_path: Path) -> None:
    broken = small_model("gpt2", seed=5)
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(torch.nan)
    models = {"oracle": small_model("gpt2", seed=5), "anti": broken}
    with pytest.raises(UserError, match=r"^The anti model gives log-prob.*not finite for pair-"):
        trainer_of(tmp_path, "tis-dpo", models=models)


def plain_logps(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]


# KTO's mismatched pairs


def test_responses_get_the_prompt_of_the_next_pair() -> None:
    pairs = [TokenizedPair(str(n), [n] * (n + 1), [10 + n] * 2, [20 + n] * 3) for n in range(3)]
    found = mismatched(pairs, max_length=5)
    assert [pair.prompt_ids for pair in found] == [[1, 1], [2, 2], [0]]
    assert [pair.chosen_ids for pair in found] == [pair.chosen_ids for pair in pairs]


def test_mismatched_values_are_those_of_a_forward_pass_with_another_prompt(
    tmp_path: Path,
) -> None:
    trainer = trainer_of(tmp_path, "kto")
    pairs = tokenize_pairs(judged(12), small_tokenizer(), max_length=MAX_LENGTH).pairs[:3]
    batch = trainer._pack(pairs, rejected=True)
    apart = trainer._pack(mismatched(pairs, MAX_LENGTH), rejected=True)
    values = trainer._mismatched_logps(batch, apart)
    for place, pair in enumerate(pairs):
        prompt = pairs[(place + 1) % 3].prompt_ids
        for side, ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
            expected = plain_logps(trainer.policy, prompt, ids).sum()
            for name in ("mismatched_policy_logps", "mismatched_ref_logps"):
                torch.testing.assert_close(
                    values[name][side, place], expected, rtol=1e-4, atol=1e-3
                )


# Values that come with the data


def without(name: str, at: int = 3) -> list[PreferencePair]:
    pairs = judged(6)
    missing: dict[str, Any] = {name: None}
    pairs[at] = replace(pairs[at], **missing)
    return pairs


def test_missing_and_equal_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 6 pairs lack.*score_chosen and score_rejected"):
        trainer_of(tmp_path, "odpo", data=without("scores"))
    level = judged(6)
    level[2] = replace(level[2], scores=(1.0, 1.0))
    with pytest.raises(UserError, match=r"1 of 6 pairs lack .*equal scores"):
        trainer_of(tmp_path, "odpo", data=level)


def test_missing_probabilities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add the column win_probability"):
        trainer_of(tmp_path, "sppo-soft", data=without("win_probability"))


def row(**values: Any) -> dict[str, Any]:
    return {"prompt": "a", "chosen": " b", "rejected": " c", **values}


def test_scores_and_probabilities_are_read_from_rows() -> None:
    data = pairs_of_rows(
        [row(score_chosen=7, score_rejected=2.5, win_probability=0.9), row(chosen=" d")], "rows"
    )
    assert data.pairs[0].scores == (7.0, 2.5)
    assert data.pairs[0].win_probability == 0.9
    assert data.pairs[1].scores is None and data.pairs[1].win_probability is None
    assert not data.report.unused_columns


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"score_chosen": "high", "score_rejected": 1}, "'score_chosen' is 'high'"),
        ({"score_chosen": float("nan"), "score_rejected": 1}, "must be a finite number"),
        ({"win_probability": 1.2}, "must be between 0 and 1"),
        ({"win_probability": True}, "must be a finite number"),
    ],
)
def test_bad_scores_are_named_with_their_row(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"row 0: .*{words}"):
        pairs_of_rows([row(**values)], "rows")


def test_token_weights_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs token_masks, the file with a weight for each"):
        POConfig(output_dir=str(tmp_path), method="weighted-dpo", use_cpu=True).make_method()


# Options


def test_hyper_parameters_of_any_method_are_options(tmp_path: Path) -> None:
    config = POConfig(output_dir=str(tmp_path), method="discopop", tau=0.1, beta=0.2, use_cpu=True)
    method: Any = config.make_method()
    assert (method.tau, method.beta) == (0.1, 0.2)
    with pytest.raises(UserError, match="'dpo' does not use the hyper-parameter 'tau'"):
        POConfig(output_dir=str(tmp_path), method="dpo", tau=0.1, use_cpu=True).make_method()
    with pytest.raises(TypeError, match="no_such"):
        POConfig(output_dir=str(tmp_path), method="dpo", no_such=1)
