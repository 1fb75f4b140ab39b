from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.metrics.significance import (
    average_drawn_seeds,
    bootstrap_mean,
    compare,
    holm,
    mcnemar,
    percentile_interval,
    row_weights,
    seed_draws,
    two_sided_p,
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
    assert (seed_draws(3, 50, 1) == seed_draws(3, 50, 1)).all()
    assert (seed_draws(3, 50, 1) != seed_draws(3, 50, 2)).any()


def test_average_of_drawn_seeds() -> None:
    per_seed = np.array([[1.0, 2.0, 4.0], [10.0, 20.0, 40.0]])
    draws = np.array([[0, 0, 2], [1, 1, 1]])
    assert average_drawn_seeds(per_seed, draws) == pytest.approx([2.0, 20.0])


def test_interval_of_a_mean_has_the_normal_width() -> None:
    scores = np.random.default_rng(0).normal(0.0, 1.0, size=(1, 400))
    low, high = percentile_interval(bootstrap_mean(scores, 4000, seed=1))
    error = scores.std() / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - 1.96 * error, abs=0.12 * error)
    assert high == pytest.approx(scores.mean() + 1.96 * error, abs=0.12 * error)


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(7)
    hits = 0
    for trial in range(200):
        scores = (generator.random((1, 150)) < 0.3).astype(float)
        low, high = percentile_interval(bootstrap_mean(scores, 400, seed=trial))
        hits += low <= 0.3 <= high
    assert 180 <= hits <= 199


def test_spread_over_seeds_widens_the_interval() -> None:
    same = np.tile([0.0, 1.0] * 50, (3, 1))
    apart = same + np.array([[-0.3], [0.0], [0.3]])
    width = [np.ptp(percentile_interval(bootstrap_mean(s, 2000, 0))) for s in (same, apart)]
    assert width[1] > 1.5 * width[0]


def test_pairing_cancels_what_systems_share() -> None:
    """Both fail on the same hard rows; unpaired intervals would hide the steady difference."""
    hard = np.random.default_rng(0).normal(0.0, 10.0, size=300)
    a, b = bootstrap_mean([hard + 1.0], 2000, 5), bootstrap_mean([hard], 2000, 5)
    result = compare(a, b, 1.0)
    assert result.low == pytest.approx(1.0)
    assert result.high == pytest.approx(1.0)
    assert result.p == pytest.approx(2 / 2001)


def test_equal_systems_do_not_differ() -> None:
    scores = np.random.default_rng(0).random((3, 100))
    replicates = bootstrap_mean(scores, 500, 1)
    assert compare(replicates, replicates, 0.0).p == 1.0


def test_false_alarms_under_no_difference_are_rare() -> None:
    generator = np.random.default_rng(11)
    p_values = []
    for trial in range(200):
        first, second = generator.random((2, 1, 120)) < 0.5
        a, b = bootstrap_mean(first, 400, trial), bootstrap_mean(second, 400, trial)
        p_values.append(two_sided_p(a - b))
    assert 0 <= np.mean(np.array(p_values) < 0.05) <= 0.1


def test_two_sided_p_known_values() -> None:
    assert two_sided_p(np.ones(99)) == pytest.approx(0.02)
    assert two_sided_p(np.r_[np.ones(97), -np.ones(2)]) == pytest.approx(0.06)
    assert two_sided_p(np.zeros(99)) == 1.0


def test_empty_scores_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        bootstrap_mean(np.zeros((1, 0)), 10, 0)
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
@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**31))
def test_replicates_stay_within_the_scores(seeds: int, rows: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random((seeds, rows))
    replicates = bootstrap_mean(scores, 50, seed)
    assert replicates.shape == (50,)
    assert (replicates >= scores.min() - 1e-12).all()
    assert (replicates <= scores.max() + 1e-12).all()


def test_two_rows_in_one_direction_are_no_significant_difference() -> None:
    """Most replicates without any difference: they must count on both sides."""
    first = np.ones((3, 150))
    second = first.copy()
    second[:, :2] = 0.0
    found = compare(
        bootstrap_mean(second, 2000, 0),
        bootstrap_mean(first, 2000, 0),
        float((second - first).mean()),
    )
    # P(neither row is drawn) = (1 - 2/150)^150 = 0.134, on two sides.
    assert found.p == pytest.approx(0.267, abs=0.05)
    assert found.low < found.difference < 0.0 <= found.high


def test_eight_rows_in_one_direction_are_one() -> None:
    first = np.ones((1, 150))
    second = first.copy()
    second[:, :8] = 0.0
    found = compare(
        bootstrap_mean(second, 2000, 0),
        bootstrap_mean(first, 2000, 0),
        float((second - first).mean()),
    )
    assert found.p < 0.01
    assert found.high < 0.0
