from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import vaderSentiment.vaderSentiment
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sentiment.decisive_tokens import word_effects
from tasks.sentiment.rewards import VaderReward
from tasks.sentiment.world import ReviewWorldConfig, review_rows, write_review, write_reviews
from tasks.sentiment.world import words as lists

REWARD = VaderReward()
CONFIG = ReviewWorldConfig(train_reviews=400, test_reviews=50)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9))
def test_the_deciding_words_are_those_without_which_the_reward_changes(seed: int) -> None:
    review = write_review(CONFIG, Random(seed))
    (effects,) = word_effects([review.text], REWARD)
    assert [(start, end) for start, end, _ in effects] == list(review.deciding)


def test_each_polarity_word_has_its_sign_and_no_other_word_has_any() -> None:
    lexicon = vaderSentiment.vaderSentiment.SentimentIntensityAnalyzer().lexicon
    positive = {w for name, group in vars(lists).items() if "POSITIVE" in name for w in group}
    negative = {w for name, group in vars(lists).items() if "NEGATIVE" in name for w in group}
    assert not positive & negative
    assert all(lexicon[word] >= 1.2 for word in positive)
    assert all(lexicon[word] <= -1.2 for word in negative)
    written = " ".join(row["text"] for row in review_rows(CONFIG, "train"))
    others = set(re.findall(r"[A-Za-z']+", written)) - positive - negative
    carrying = (
        set(lexicon)
        | set(vaderSentiment.vaderSentiment.BOOSTER_DICT)
        | set(vaderSentiment.vaderSentiment.NEGATE)
    )
    assert {word for word in others if word.lower() in carrying} == {
        lists.BOOSTER,
        lists.NEGATION,
    }


def test_reviews_are_of_mixed_sentiment_and_labelled_by_it() -> None:
    rows = list(review_rows(CONFIG, "train"))
    scores = REWARD([row["text"] for row in rows])
    assert 0.4 < sum(scores) / len(scores) < 0.6
    assert 0.3 < sum(score > 0.7 for score in scores) / len(scores) < 0.6
    # The label counts opinions, VADER weighs them: they agree on nearly all clear reviews.
    clear = [(r["label"], s > 0.5) for r, s in zip(rows, scores, strict=True) if abs(s - 0.5) > 0.3]
    assert sum(label == above for label, above in clear) / len(clear) > 0.9


def test_articles_agree() -> None:
    written = " ".join(row["text"] for row in review_rows(CONFIG, "train"))
    for word, following in re.findall(r"\b(an?) (\w+)", written):
        assert word == (
            "an" if following[0] in "aeioAEIO" or following in ("ugly", "honest") else "a"
        )


def test_equal_configurations_write_equal_bytes(tmp_path: Path) -> None:
    for name, config in (("a", CONFIG), ("b", CONFIG), ("c", replace(CONFIG, seed=1))):
        write_reviews(config, tmp_path / name)
    for split, count in (("train", 400), ("test", 50)):
        first, same, other = (
            (tmp_path / name / f"{split}.jsonl").read_bytes() for name in ("a", "b", "c")
        )
        assert first == same != other
        rows = [json.loads(line) for line in first.splitlines()]
        assert len(rows) == count
        assert set(rows[0]) == {"text", "label", "deciding"}
    # The size of one split moves nothing in the other.
    write_reviews(replace(CONFIG, train_reviews=10), tmp_path / "d")
    assert (tmp_path / "d/test.jsonl").read_bytes() == (tmp_path / "a/test.jsonl").read_bytes()
