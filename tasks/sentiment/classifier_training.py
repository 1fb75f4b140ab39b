"""Trains the classifier of `sentiment.classifier` on labelled texts, and measures it.

The regression's penalty is chosen by the log loss in cross-validation on the training texts, as
rewards are probabilities; the held-out texts are used once, for the accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsepo.errors import UserError
from tasks.sentiment.classifier import Classifier, SentenceEncoder
from tasks.sentiment.reviews import read_reviews
from tasks.sentiment.rewards import VaderReward

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the penalty that cross-validation chooses from."""
FOLDS = 5
_FEWEST = 20
"""Fewest training texts of a class."""


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
        LogisticRegression(max_iter=2000), {"C": PENALTIES}, scoring="neg_log_loss", cv=folds
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
