"""Training a reward model on pairs, and judging with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from transformers import LlamaForCausalLM

from sparsepo.errors import DivergedError, UserError
from sparsepo.types import PreferencePair
from tasks.judges.ask import compare_systems
from tasks.judges.base import Item
from tasks.judges.local import RewardJudge
from tasks.judges.reward_text import without_beginning
from tasks.judges.reward_train import train_reward_model
from tasks.judges.settings import JudgeSettings, RewardTraining
from tests.tasks.judges.test_local_judges import saved

TRAINING = RewardTraining(learning_rate=3e-3, epochs=2, batch_size=16)
WORDS = ("tea", "milk", "bread", "a cup", "the house", "water")


def pairs(count: int, seed: int) -> list[PreferencePair]:
    """Thanks are chosen, refusals are rejected."""
    random = Random(seed)
    made = []
    for index in range(count):
        texts = [f"{random.choice(WORDS)} {word} {random.choice(WORDS)}" for word in ("yes", "no")]
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in texts)
        prompt = [{"role": "user", "content": f"{random.choice(WORDS)}?"}]
        made.append(PreferencePair(str(index), prompt, chosen, rejected))
    return made


def test_it_learns_repeats_and_judges(tmp_path: Path) -> None:
    start = saved(LlamaForCausalLM, tmp_path / "start")
    reports = [
        train_reward_model(start, pairs(200, 0), pairs(60, 1), tmp_path / name, TRAINING, seed=5)
        for name in "ab"
    ]
    assert reports[0] == reports[1]
    assert reports[0].accuracy is not None and reports[0].accuracy >= 0.9
    assert (reports[0].pairs, reports[0].truncated, reports[0].too_long) == (200, 0, 0)
    assert reports[0].held_out == 60
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second
    settings = JudgeSettings(kind="reward", model="trained")
    judge = RewardJudge(settings, tmp_path / "a", "cpu")
    prompt = [{"role": "user", "content": "milk?"}]
    items = [Item(str(n), prompt, f"{w} yes {w}", f"{w} no {w}") for n, w in enumerate(WORDS)]
    won = [one.result for one in compare_systems(judge, items)]
    assert won.count("first") >= 5


def test_pairs_whose_responses_are_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    start = saved(LlamaForCausalLM, tmp_path / "start", context=64)
    long = [{"role": "assistant", "content": "tea " * 90}]
    mixed = [*pairs(20, 0), replace(pairs(1, 1)[0], chosen=long)]
    report = train_reward_model(start, mixed, mixed, tmp_path / "a", TRAINING, seed=0)
    assert (report.pairs, report.too_long, report.held_out) == (20, 1, 20)
    with pytest.raises(UserError, match="context of 64 tokens"):
        train_reward_model(start, mixed[-1:], [], tmp_path / "b", TRAINING, seed=0)


def test_long_prompts_lose_their_beginning_in_training_and_judging(tmp_path: Path) -> None:
    start = saved(LlamaForCausalLM, tmp_path / "start", context=64)

    def long(pair: PreferencePair) -> PreferencePair:
        return replace(pair, prompt=[{"role": "user", "content": "milk " * 90 + "?"}])

    made = pairs(120, 0)
    mixed = [*made, *map(long, made)]
    report = train_reward_model(start, mixed, mixed[:150], tmp_path / "a", TRAINING, seed=5)
    assert (report.pairs, report.truncated, report.too_long) == (240, 120, 0)
    assert report.held_out == 150
    judge = RewardJudge(JudgeSettings(kind="reward", model="trained"), tmp_path / "a", "cpu")
    items = [
        Item(pair.pair_id, cast(Any, pair.prompt), "tea yes tea", "tea no, not today, tea")
        for pair in (long(made[0]), made[0])
    ]
    assert [one.result for one in compare_systems(judge, items)] == ["first", "first"]
    # Any other reward model reads whole texts or none.
    other = RewardJudge(JudgeSettings(kind="reward", model="other"), tmp_path / "a", "cpu")
    assert [one.result for one in compare_systems(other, items)] == ["failed", "first"]


def test_both_responses_lose_the_same_beginning() -> None:
    first, second = (1, 2, 3, 4, 5, 9), (1, 2, 3, 4, 5, 8, 7)
    assert without_beginning(first, second, 5) == ((3, 4, 5, 9), (3, 4, 5, 8, 7))
    assert without_beginning(second, first, 5) == ((3, 4, 5, 8, 7), (3, 4, 5, 9))
    for longest in (None, 7, 1):
        assert without_beginning(first, second, longest) == (first, second)


def test_a_rate_that_diverges_is_named(tmp_path: Path) -> None:
    start = saved(LlamaForCausalLM, tmp_path / "start")
    training = replace(TRAINING, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"lower judge\.train\.learning_rate"):
        train_reward_model(start, pairs(64, 0), [], tmp_path / "a", training, seed=0)
