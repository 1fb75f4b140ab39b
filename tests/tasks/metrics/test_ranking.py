from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks.metrics.ranking import rank, weighted_rankings


def test_a_perfect_a_reversed_and_a_constant_score() -> None:
    labels = [[1, 0, 0, 1], [0, 1]]
    perfect = rank([[0.9, 0.1, 0.2, 0.8], [0.3, 0.7]], labels, 10, 0)
    assert perfect.auroc == 1.0
    assert perfect.average_precision == 1.0
    reversed_ = rank([[-0.9, -0.1, -0.2, -0.8], [-0.3, -0.7]], labels, 10, 0)
    assert reversed_.auroc == 0.0
    constant = rank([[0.0] * 4, [0.0] * 2], labels, 10, 0)
    assert constant.auroc == 0.5
    assert constant.average_precision == 0.5
    assert (constant.positives, constant.items) == (3, 6)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_weights_are_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    items = 40
    # Few distinct values, so that ties between positives and negatives occur.
    values = generator.integers(0, 6, items).astype(float)
    truth = generator.random(items) < 0.4
    groups = generator.integers(0, 5, items)
    counts = generator.integers(0, 3, (4, 5)).astype(float)
    aurocs, precisions = weighted_rankings(values, truth, groups, counts)
    for row, auroc, precision in zip(counts, aurocs, precisions, strict=True):
        weights = row[groups]
        if not (weights[truth].sum() and weights[~truth].sum()):
            assert np.isnan(auroc) or np.isnan(precision)
            continue
        assert auroc == pytest.approx(roc_auc_score(truth, values, sample_weight=weights))
        assert precision == pytest.approx(
            average_precision_score(truth, values, sample_weight=weights)
        )


def test_replicates_draw_whole_texts_and_cover_the_value() -> None:
    generator = np.random.default_rng(1)
    labels = [generator.random(20) < 0.3 for _ in range(30)]
    scores = [generator.random(20) + 0.5 * own for own in labels]
    found = rank(scores, labels, 400, 7)
    assert np.quantile(found.auroc_replicates, 0.025) < found.auroc
    assert np.quantile(found.auroc_replicates, 0.975) > found.auroc
    again = rank(scores, labels, 400, 7)
    assert (again.auroc_replicates == found.auroc_replicates).all()


def test_what_has_no_ranking() -> None:
    with pytest.raises(ValueError, match="positives and negatives"):
        rank([[0.1, 0.2]], [[0, 0]], 10, 0)
    with pytest.raises(ValueError, match="finite"):
        rank([[0.1, float("nan")]], [[0, 1]], 10, 0)
