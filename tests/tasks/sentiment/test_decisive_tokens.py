from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from sparsepo.errors import UserError
from tasks.sentiment.decisive_tokens import label_tokens, word_effects
from tasks.sentiment.rewards import VaderReward


def deciding(text: str) -> dict[str, float]:
    (effects,) = word_effects([text], VaderReward())
    return {text[start:end]: effect for start, end, effect in effects}


def test_effects_have_the_sign_of_what_a_word_does() -> None:
    found = deciding("The plot was superb and the cast was dull in Paris.")
    assert set(found) == {"superb", "dull"}
    assert found["superb"] > 0 > found["dull"]


def test_a_negation_decides_only_before_a_word_of_polarity() -> None:
    found = deciding("The plot was not good. It was filmed in a small town.")
    assert set(found) == {"not", "good"}
    assert found["not"] < 0
    assert deciding("It was not filmed in Rome.") == {}
    assert set(deciding("It was very long and it was very good.")) == {"very", "good"}


def test_texts_are_independent() -> None:
    texts = ["a superb plot", "", "nothing of note here", "awful, awful cast!"]
    together = word_effects(texts, VaderReward())
    assert together == [word_effects([text], VaderReward())[0] for text in texts]
    assert together[1] == []


class Longest:
    """Rewards the longest word: every other one has no effect."""

    name = "longest"

    def __call__(self, texts: Sequence[str]) -> list[float]:
        return [max((len(word) for word in text.split()), default=0) / 100 for text in texts]


def test_any_reward_model_serves_and_the_threshold_counts() -> None:
    text = "we saw wonderful things"
    assert [(text[a:b]) for a, b, _ in word_effects([text], Longest())[0]] == ["wonderful"]
    assert word_effects([text], Longest(), threshold=0.5) == [[]]
    with pytest.raises(UserError, match="positive"):
        word_effects([text], Longest(), threshold=0)


class Nothing:
    name = "nothing"

    def __call__(self, texts: Sequence[str]) -> list[float]:
        return [math.nan] * len(texts)


def test_a_text_without_a_reward_has_no_deciding_words() -> None:
    assert word_effects(["superb"], Nothing()) == [[]]


def test_tokens_are_labelled_by_overlap() -> None:
    # "was not good." as tokens " was", " no", "t", " good", ".", and EOS.
    offsets = [(0, 4), (4, 7), (7, 8), (8, 13), (13, 14), (14, 14)]
    spans = [(5, 8, -0.2), (9, 13, 0.3)]
    assert label_tokens(offsets, spans) == [False, True, True, True, False, False]
    assert label_tokens(offsets, []) == [False] * 6
