from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.errors import UserError
from tasks.sentiment.pairs import (
    NO_REWARD,
    TIE,
    rank_samples,
    review_prefixes,
)
from tests.small_models import small_tokenizer

REVIEWS = [f"the cat {name} sat on the mat and saw the dog" for name in "abcdefghijklmnopqrst"]


def lengths(prompts: list[str]) -> set[int]:
    tokenizer: Any = small_tokenizer()
    return {len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts}


def test_prefixes_have_the_tokens_asked_for_and_begin_their_review() -> None:
    tokenizer = small_tokenizer()
    prompts = review_prefixes(REVIEWS, tokenizer, 12, seed=0)
    assert len(set(prompts)) == 12
    assert all(any(review.startswith(prompt) for review in REVIEWS) for prompt in prompts)
    assert lengths(prompts) <= {5, 6, 7, 8}
    assert len(lengths(prompts)) > 1
    assert prompts == review_prefixes(REVIEWS, tokenizer, 12, seed=0)
    others = review_prefixes(REVIEWS, tokenizer, 12, seed=0, exclude=prompts)
    assert not set(others) & set(prompts)


def test_short_and_repeated_reviews_are_passed_over() -> None:
    tokenizer = small_tokenizer()
    assert len(review_prefixes([*REVIEWS[:3] * 5, "the"], tokenizer, 99, 0, (7, 7))) == 3
    with pytest.raises(UserError, match="longer or more reviews"):
        review_prefixes(["the", ""], tokenizer, 5, 0)
    with pytest.raises(UserError, match="8 to 5 tokens"):
        review_prefixes(REVIEWS, tokenizer, 5, 0, (8, 5))


def test_a_prefix_never_ends_within_a_character() -> None:
    review = "\N{CLAPPER BOARD}" * 12
    prompts = review_prefixes([review] * 8, small_tokenizer_of_bytes(), 8, 1, (5, 8))
    assert all(set(prompt) == {"\N{CLAPPER BOARD}"} for prompt in prompts)


def small_tokenizer_of_bytes() -> Any:
    from tasks.models.base_model import train_tokenizer

    return train_tokenizer(["abc"], 260)


def test_the_better_rewarded_completion_is_chosen_and_the_rest_counted() -> None:
    prompts = ["a", "b", "c", "d", "e"]
    completions = [[" x", " y"], [" x", " y"], [" x", " x"], ["", " y"], [" x", " y"]]
    rewards = [[0.2, 0.8], [0.5, 0.5], [0.5, 0.5], [0.1, 0.9], [0.9, None]]
    found = rank_samples(prompts, completions, rewards, "train")
    (only,) = found.pairs
    assert (only.pair_id, only.prompt, only.chosen, only.rejected) == ("train:0", "a", " y", " x")
    assert found.rewards == [(0.8, 0.2)]
    assert found.prompts == 5
    assert found.skipped == {
        TIE: 1,
        "identical responses": 1,
        "empty response": 1,
        NO_REWARD: 1,
    }
    with pytest.raises(UserError, match="No pair comes of 1 prompts: 1 tie"):
        rank_samples(["b"], [[" x", " y"]], [[0.5, 0.5]])


def test_the_best_and_the_worst_of_several_completions_are_the_pair() -> None:
    found = rank_samples(
        ["a", "b", "c"],
        [[" m", " w", "", " b", " n"], [" x", "", " y"], [" x", " y", " z"]],
        [[0.4, 0.1, 1.0, 0.9, None], [0.3, 0.0, 0.2], [0.5, 0.5, 0.5]],
    )
    assert [(pair.chosen, pair.rejected) for pair in found.pairs] == [(" b", " w"), (" x", " y")]
    assert found.rewards == [(0.9, 0.1), (0.3, 0.2)]
    assert found.skipped == {TIE: 1}


@given(
    st.lists(
        st.tuples(
            st.tuples(st.sampled_from(["", " ", " x", " y"]), st.sampled_from([" x", " z"])),
            st.tuples(*[st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0]))] * 2),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_prompt_becomes_a_pair_or_is_counted(rows: list[Any]) -> None:
    prompts = [str(index) for index in range(len(rows))]
    # One pair that cannot be left out, so that there is always one.
    found = rank_samples(
        [*prompts, "sure"],
        [*(row[0] for row in rows), (" x", " y")],
        [*(row[1] for row in rows), (0.0, 1.0)],
    )
    assert len(found.pairs) + sum(found.skipped.values()) == len(rows) + 1
    assert all(better > worse for better, worse in found.rewards)
    assert all(pair.chosen.strip() and pair.rejected.strip() for pair in found.pairs)  # type: ignore[union-attr]
