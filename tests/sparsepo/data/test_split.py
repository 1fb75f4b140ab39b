"""A share of the pairs is held out by id, never with one prompt on both sides."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.data import hold_out
from sparsepo.data.split import shared_pairs
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair


def pairs_of(prompts: list[int]) -> list[PreferencePair]:
    return [
        PreferencePair(f"file:{place}", f"prompt {prompt}", " yes", f" no {place}")
        for place, prompt in enumerate(prompts)
    ]


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.randoms(use_true_random=False),
)
def test_the_halves_are_a_partition_without_a_shared_prompt(
    prompts: list[int], share: float, shuffle: random.Random
) -> None:
    pairs = pairs_of(prompts)
    try:
        training, held = hold_out(pairs, share)
    except UserError:
        # Every prompt has more pairs than may be held out.
        largest = max(1, round(share * len(pairs)))
        assert min(map(prompts.count, prompts)) > min(largest, len(pairs) - 1)
        return
    assert training and held
    assert sorted(pair.pair_id for pair in [*training, *held]) == sorted(p.pair_id for p in pairs)
    assert not {pair.prompt for pair in training} & {pair.prompt for pair in held}
    assert len(held) <= max(1, round(share * len(pairs)))
    # The order of the rows has no part in it.
    mixed = list(pairs)
    shuffle.shuffle(mixed)
    assert {p.pair_id for p in hold_out(mixed, share)[1]} == {p.pair_id for p in held}


def test_the_share_is_reached_exactly_where_every_prompt_has_one_pair() -> None:
    training, held = hold_out(pairs_of(list(range(200))), 0.05)
    assert (len(training), len(held)) == (190, 10)


def test_pairs_that_are_added_leave_most_of_the_held_out_ones_where_they_were() -> None:
    pairs = pairs_of(list(range(400)))
    before = {pair.pair_id for pair in hold_out(pairs[:380], 0.1)[1]}
    after = {pair.pair_id for pair in hold_out(pairs, 0.1)[1]}
    assert len(before & after) > 0.8 * len(before)


def test_chat_prompts_are_compared_by_their_messages() -> None:
    def chat(place: int, text: str) -> PreferencePair:
        message = [{"role": "user", "content": text}]
        answers = [[{"role": "assistant", "content": word}] for word in ("yes", "no")]
        return PreferencePair(f"chat:{place}", message, *answers)

    pairs = [chat(place, f"question {place // 2}") for place in range(20)]
    training, held = hold_out(pairs, 0.2)
    assert len(held) == 4
    assert all(pair.prompt not in [other.prompt for other in training] for pair in held)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), True, "0.1", None])
def test_a_share_out_of_range_is_refused(share: object) -> None:
    with pytest.raises(UserError, match=r"eval_share must be above 0 and below 1"):
        hold_out(pairs_of([1, 2, 3]), share)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompts", [[1], [1, 1, 1]])
def test_a_single_prompt_cannot_be_held_out(prompts: list[int]) -> None:
    with pytest.raises(UserError, match="without splitting the pairs of one prompt"):
        hold_out(pairs_of(prompts), 0.5)


def test_shared_pairs_are_counted_by_content_and_not_by_id() -> None:
    pairs = pairs_of([1, 2, 3])
    renamed = [dataclasses.replace(pair, pair_id=f"other:{pair.pair_id}") for pair in pairs[:2]]
    changed = dataclasses.replace(pairs[2], rejected=" something else")
    assert shared_pairs([*renamed, changed], pairs) == 2
