"""Reward models of sentiment: one number in [0, 1] per text, higher for more positive.

All follow the paper's rule: the score of a text is p(positive) if it is classified as positive, and
1 − p(negative) otherwise. With two classes both are p(positive); with a third class such as
"neutral", everything that is not negative counts as good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sparsepo.data.hub import require_model
from sparsepo.errors import UserError, first_line

VADER = "vader"
TRAINED = "trained"
"""A classifier that is trained on labelled texts; see `sentiment.classifier`."""
DEFAULT_CLASSIFIER = "siebert/sentiment-roberta-large-english"
"""[paper] The ground-truth reward of the sentiment experiments."""

_POSITIVE_NAMES = ("positive", "pos")
_NEGATIVE_NAMES = ("negative", "neg")


class RewardModel(Protocol):
    """Scores texts; a text's score depends only on the text."""

    name: str
    """Name in reports."""

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return one score in [0, 1] per text, NaN for texts without a score."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of texts, some of which may be missing."""

    scores: list[float | None]
    missing: int
    """Number of texts without a finite score."""


def score_texts(reward: RewardModel, texts: Sequence[str]) -> Scored:
    """Score texts; scores that are not finite become None and are counted.

    Args:
        reward: the reward model.
        texts: whole reviews, prompt and response.

    Raises:
        UserError: no text has a finite score.
    """
    raw = reward(texts)
    scores = [score if math.isfinite(score) else None for score in raw]
    missing = sum(score is None for score in scores)
    if texts and missing == len(texts):
        raise UserError(
            f"The reward model {reward.name} gives no finite score to any of {len(texts)} texts; "
            "load it in float32, or use another one."
        )
    return Scored(scores, missing)


def label_reward(p_positive: float, p_negative: float) -> float:
    """Return p(positive) if the text is classified as positive, otherwise 1 − p(negative).

    Args:
        p_positive: probability of the positive class.
        p_negative: probability of the negative class; with a neutral class the two sum to less
            than 1.

    Source: arXiv 2410.05102, section on sentiment control.
    """
    return p_positive if p_positive > p_negative else 1.0 - p_negative


class VaderReward:
    """VADER's lexicon and rules as a classifier of two classes.

    p(positive) = (1 + c)/2 with VADER's compound score c = s/√(s² + 15), where s sums the valences
    of the text's words, each after VADER's rules for negation, degree adverbs, "but", capitals and
    marks. A text without such words scores ½.

    Source: Hutto and Gilbert, VADER (ICWSM 2014), the package vaderSentiment.
    """

    name = VADER

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return (1 + compound)/2 per text."""
        positive = [(1 + self._analyzer.polarity_scores(text)["compound"]) / 2 for text in texts]
        return [label_reward(p, 1 - p) for p in positive]


class ClassifierReward:
    """A Hugging Face sequence classifier.

    Args:
        model: a folder or hub id.
        positive: name of the positive class, if it is unusual.
        negative: name of the negative class.
        batch_size: texts per forward pass; it changes scores only by rounding.
        device: such as "cpu" or "cuda"; by default CUDA if available.

    Raises:
        UserError: the classifier does not exist, or its classes are unknown.
    """

    def __init__(
        self,
        model: str,
        positive: str | None = None,
        negative: str | None = None,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.name = model
        require_model(model)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(model)
        except (OSError, ValueError) as error:
            reason = first_line(error).rstrip(".")
            raise UserError(
                f"No sequence classifier can be loaded from {model} ({reason}); give the folder or "
                "hub id of one."
            ) from None
        names = {int(index): str(name) for index, name in loaded.config.id2label.items()}
        self._positive = class_index(names, positive, _POSITIVE_NAMES, "positive", model)
        self._negative = class_index(names, negative, _NEGATIVE_NAMES, "negative", model)
        if self._positive == self._negative:
            raise UserError(
                f"{model}: the positive and the negative class are the same; set "
                "reward.positive and reward.negative to different classes."
            )
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = loaded.to(place).eval()
        self._batch_size = batch_size
        limit = int(getattr(loaded.config, "max_position_embeddings", 512))
        # RoBERTa's positions begin after its padding index, so two of them are never used.
        self._max_length = min(limit - 2, self._tokenizer.model_max_length)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Score texts in batches of similar length, truncated from the right to the context.

        A text without any token has no score; some tokenizers add none to an empty text.
        """
        import torch

        encoded = [
            self._tokenizer(text, truncation=True, max_length=self._max_length) for text in texts
        ]
        lengths = [len(one["input_ids"]) for one in encoded]
        order = sorted(filter(lengths.__getitem__, range(len(texts))), key=lengths.__getitem__)
        scores = [math.nan] * len(texts)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            batch = self._tokenizer.pad(
                [encoded[index] for index in chosen], return_tensors="pt"
            ).to(self._model.device)
            with torch.no_grad():
                shares = self._model(**batch).logits.double().softmax(-1).tolist()
            for index, row in zip(chosen, shares, strict=True):
                scores[index] = label_reward(row[self._positive], row[self._negative])
        return scores


def class_index(
    names: Mapping[int, str],
    wanted: str | None,
    known: Sequence[str],
    role: str,
    model: str,
) -> int:
    """Return the index of a class, by the given name or by its usual names.

    Args:
        names: the classifier's classes by index.
        wanted: the user's name or index of the class; None searches for a usual name.
        known: usual names in lower case.
        role: "positive" or "negative", for messages.
        model: the classifier, for messages.

    Raises:
        UserError: there is no such class; the message lists the classes.
    """
    for index, name in names.items():
        matches = name.lower() in known if wanted is None else wanted in (name, str(index))
        if matches:
            return index
    listed = ", ".join(f"{index}: {name}" for index, name in sorted(names.items()))
    problem = f"has no class {wanted!r}" if wanted else f"does not say which class is {role}"
    raise UserError(
        f"The classifier {model} {problem} (its classes: {listed}); name it with "
        f"reward.{role}=NAME."
    )


_MAKERS: dict[str, Callable[[], RewardModel]] = {VADER: VaderReward}


def make_reward(
    model: str,
    positive: str | None = None,
    negative: str | None = None,
    batch_size: int = 64,
    device: str | None = None,
) -> RewardModel:
    """Return a reward model by name: "vader", or a sequence classifier's folder or hub id.

    Args:
        model: name of the reward model.
        positive: a classifier's positive class, if its name is unusual.
        negative: its negative class.
        batch_size: texts per forward pass of a classifier.
        device: a classifier's device.

    Raises:
        UserError: see `ClassifierReward`.
    """
    if model in _MAKERS:
        return _MAKERS[model]()
    return ClassifierReward(model, positive, negative, batch_size, device)
