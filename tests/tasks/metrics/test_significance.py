from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.metrics.significance import (
    bootstrap_mean,
    holm,
    mcnemar,
    percentile_interval,
    row_weights,
)


def test_row_weights_are_counts_of_a_draw_with_replacement() -> None:
    weights = row_weights(20, 500, seed=3)
    assert weights.shape == (500, 20)
    assert (weights.sum(axis=1) == 20).all()
    assert (weights >= 0).all()
    # Each count is binomial(20, 1/20): mean 1, variance 0.95.
    assert weights.mean() == pytest.approx(1.0)
    assert weights.var() == pytest.approx(0.95, rel=0.1)


def test_same_seed_same_draw_other_seed_other_draw() -> None:
    assert (row_weights(9, 50, 1) == row_weights(9, 50, 1)).all()
    assert (row_weights(9, 50, 1) != row_weights(9, 50, 2)).any()
    assert (row_weights(9, 50, (1, 0)) != row_weights(9, 50, (1, 1))).any()


def test_interval_of_a_mean_has_the_normal_width() -> None:
    scores = np.random.default_rng(0).normal(0.0, 1.0, size=400)
    low, high = percentile_interval(bootstrap_mean(scores, 4000, seed=1))
    error = scores.std() / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - 1.96 * error, abs=0.12 * error)
    assert high == pytest.approx(scores.mean() + 1.96 * error, abs=0.12 * error)


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(7)
    hits = 0
    for trial in range(200):
        scores = (generator.random(150) < 0.3).astype(float)
        low, high = percentile_interval(bootstrap_mean(scores, 400, seed=trial))
        hits += low <= 0.3 <= high
    assert 180 <= hits <= 199


def test_empty_scores_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        bootstrap_mean([], 10, 0)
    with pytest.raises(ValueError, match="level"):
        percentile_interval([1.0], level=95)


def test_an_interval_of_floored_scores_contains_the_estimate() -> None:
    """24 sub-tasks at chance, floored one by one: resamples lie above the sample."""
    generator = np.random.default_rng(3)
    scores = (generator.random((24, 16)) < 0.5).astype(float)
    weights = [row_weights(16, 1000, (0, i)) for i in range(24)]

    def floored(means: np.ndarray) -> np.ndarray:
        return np.maximum((means - 0.5) / 0.5, 0.0)

    estimate = float(np.mean([floored(row.mean()) for row in scores]))
    drawn = np.mean([floored(w @ r / 16) for w, r in zip(weights, scores, strict=True)], axis=0)
    assert drawn.mean() > estimate + 0.02
    low, high = percentile_interval(drawn, estimate=estimate)
    assert low < estimate < high
    plain = percentile_interval(drawn)
    assert high - low == pytest.approx(plain[1] - plain[0])


def test_holm_known_answer() -> None:
    # Holm's own kind of example: 0.01·4, 0.013·3 raised to it, 0.03·2, 0.04·1 raised to it.
    adjusted = holm({"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.013})
    assert adjusted == pytest.approx({"c": 0.06, "a": 0.04, "d": 0.06, "b": 0.04})
    assert list(adjusted) == ["c", "a", "d", "b"]
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p: dict[str, float]) -> None:
    adjusted = holm(p)
    for name, value in p.items():
        assert value <= adjusted[name] <= min(1.0, len(p) * value) + 1e-12
    for one in p:
        for two in p:
            if p[one] < p[two]:
                assert adjusted[one] <= adjusted[two]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_agrees_with_the_binomial_test(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    result = mcnemar(first, second)
    only_first = sum(a and not b for a, b in pairs)
    differ = sum(a != b for a, b in pairs)
    expected = binomtest(only_first, differ).pvalue if differ else 1.0
    assert (result.only_first, result.only_second) == (only_first, differ - only_first)
    assert result.p == pytest.approx(expected, rel=1e-9)


def test_mcnemar_is_exact_for_many_items() -> None:
    first = np.r_[np.ones(3000), np.zeros(2700)].astype(bool)
    expected = binomtest(3000, 5700).pvalue
    assert mcnemar(first, ~first).p == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="3 and 2"):
        mcnemar([True] * 3, [True] * 2)


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 2**31))
def test_replicates_stay_within_the_scores(rows: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random(rows)
    replicates = bootstrap_mean(scores, 50, seed)
    assert replicates.shape == (50,)
    assert (replicates >= scores.min() - 1e-12).all()
    assert (replicates <= scores.max() + 1e-12).all()
