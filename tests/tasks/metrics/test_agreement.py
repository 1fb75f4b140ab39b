"""Cohen's κ against scikit-learn's, and its bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tasks.metrics.agreement import cohen_kappa
from tasks.metrics.significance import row_weights


def test_it_is_scikit_learns_also_in_every_replicate() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(["first", "second"], (60, 2))
    judged = np.where(generator.random((60, 2)) < 0.7, labels, "tie")
    weights = row_weights(60, 20, 5)
    found = cohen_kappa(labels.tolist(), judged.tolist(), weights)
    for own, kappa in zip(weights, found, strict=True):
        drawn = np.repeat(np.arange(60), own.astype(int))
        expected = cohen_kappa_score(labels[drawn].ravel(), judged[drawn].ravel())
        assert kappa == pytest.approx(expected, abs=1e-12)


def test_known_values() -> None:
    ones = np.ones((1, 4))
    labels = [["a"], ["a"], ["b"], ["b"]]
    assert cohen_kappa(labels, labels, ones) == pytest.approx([1.0])
    assert cohen_kappa(labels, [["a"], ["b"], ["a"], ["b"]], ones) == pytest.approx([0.0])
    assert cohen_kappa(labels, [["b"], ["b"], ["a"], ["a"]], ones) == pytest.approx([-1.0])


def test_a_single_category_has_no_kappa() -> None:
    assert np.isnan(cohen_kappa([["a"], ["a"]], [["a"], ["a"]], np.ones((1, 2)))).all()


def test_unequal_numbers_of_ratings_are_refused() -> None:
    with pytest.raises(ValueError):
        cohen_kappa([["a", "b"]], [["a"]], np.ones((1, 1)))
