from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RobertaConfig, RobertaForSequenceClassification

from sparsepo.errors import UserError
from tasks.sentiment.rewards import (
    ClassifierReward,
    VaderReward,
    label_reward,
    make_reward,
    score_texts,
)
from tests.small_models import small_tokenizer

TEXTS = ["the cat", "a big red hat was lost in town", "dog", "the mat and the dog saw it all"]


@pytest.fixture
def classifier(tmp_path: Path) -> Any:
    """Save a small random RoBERTa classifier with the given class names."""

    def save(names: Sequence[str], **changes: Any) -> str:
        tokenizer = small_tokenizer()
        tokenizer.pad_token = tokenizer.eos_token
        torch.manual_seed(0)
        config = RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
            num_labels=len(names),
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.5,
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            **changes,
        )
        folder = tmp_path / "-".join(names)
        RobertaForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return save


@settings(deadline=None)
@given(st.floats(0, 1))
def test_with_two_classes_the_rule_is_the_positive_probability(share: float) -> None:
    assert label_reward(share, 1 - share) == pytest.approx(share)


def test_with_a_neutral_class_what_is_not_negative_counts() -> None:
    assert label_reward(0.2, 0.1) == 0.2
    assert label_reward(0.1, 0.2) == pytest.approx(0.8)


def test_batching_does_not_change_scores(classifier: Any) -> None:
    folder = classifier(["NEGATIVE", "POSITIVE"])
    alone = ClassifierReward(folder, batch_size=1, device="cpu")(TEXTS)
    together = ClassifierReward(folder, batch_size=16, device="cpu")(TEXTS)
    assert together == pytest.approx(alone, abs=1e-6)
    assert len(set(alone)) == len(TEXTS)
    assert all(0 < score < 1 for score in alone)
    # Nor does the order, nor what else is scored.
    assert ClassifierReward(folder, batch_size=2, device="cpu")(TEXTS[::-1]) == pytest.approx(
        alone[::-1], abs=1e-6
    )


def test_a_text_without_tokens_has_no_score(classifier: Any) -> None:
    folder = classifier(["NEGATIVE", "POSITIVE"])
    for size in (1, 8):
        found = ClassifierReward(folder, batch_size=size, device="cpu")(["the cat", "", "dog"])
        assert [math.isnan(score) for score in found] == [False, True, False]


def test_long_texts_lose_their_end(classifier: Any) -> None:
    reward = ClassifierReward(classifier(["negative", "positive"]), device="cpu")
    (cut, longer) = reward(["the cat " * 60, "the cat " * 90])
    assert cut == pytest.approx(longer, abs=1e-6)


def test_the_classes_are_found_by_name_or_asked_for(classifier: Any) -> None:
    swapped = ClassifierReward(classifier(["POS", "NEG"]), device="cpu")(TEXTS)
    named = classifier(["LABEL_0", "LABEL_1"])
    with pytest.raises(UserError, match=r"0: LABEL_0, 1: LABEL_1.*reward.positive=NAME"):
        ClassifierReward(named)
    told = ClassifierReward(named, positive="LABEL_0", negative="1", device="cpu")(TEXTS)
    assert told == pytest.approx(swapped)
    with pytest.raises(UserError, match="has no class 'good'"):
        ClassifierReward(named, positive="good", negative="LABEL_0")
    with pytest.raises(UserError, match="are the same"):
        ClassifierReward(named, positive="LABEL_0", negative="0")
    three = ClassifierReward(classifier(["negative", "neutral", "positive"]), device="cpu")(TEXTS)
    assert all(0 < score < 1 for score in three)


def test_what_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No sequence classifier can be loaded"):
        make_reward(str(tmp_path))
    with pytest.raises(UserError, match="There is no folder '/no/such/dir', and it is not a hub"):
        make_reward("/no/such/dir")


def test_vader_scores_what_its_compound_says() -> None:
    good, bad, none, empty = VaderReward()(["a superb plot", "a dull plot", "a plot", ""])
    valence = 3.1
    assert good == pytest.approx((1 + valence / math.sqrt(valence**2 + 15)) / 2, abs=1e-4)
    assert bad < 0.5
    assert none == empty == 0.5
    negated, plain = VaderReward()(["the plot was not good", "the plot was good"])
    assert negated < 0.5 < plain
    assert make_reward("vader").name == "vader"


class Broken:
    name = "broken"

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def __call__(self, texts: Sequence[str]) -> list[float]:
        return list(self.scores)


def test_scores_that_are_no_numbers_are_counted_or_an_error() -> None:
    scored = score_texts(Broken(0.5, math.nan, math.inf, 0.0), ["a", "b", "c", "d"])
    assert scored.scores == [0.5, None, None, 0.0]
    assert scored.missing == 2
    with pytest.raises(UserError, match="no finite score to any of 2 texts"):
        score_texts(Broken(math.nan, math.nan), ["a", "b"])
    assert score_texts(Broken(), []).missing == 0


def test_a_classifier_in_half_precision_that_overflows_is_noticed(classifier: Any) -> None:
    reward = ClassifierReward(classifier(["negative", "positive"]), device="cpu")
    reward._model.classifier.out_proj.bias.data.fill_(math.nan)
    with pytest.raises(UserError, match="no finite score"):
        score_texts(reward, TEXTS)
