"""Win rates: orders, ties, failures, and what length control does where the truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.metrics.preference import PREFERENCES, SCORES, combine, mirrored, shown_first
from tasks.metrics.significance import row_weights
from tasks.metrics.winrate import length_controlled, weighted_mean


@pytest.mark.parametrize(
    ("forward", "backward", "result", "first"),
    [
        ("first", "second", "first", 0.5),
        ("second", "first", "second", 0.5),
        ("first", "first", "tie", 1.0),
        ("second", "second", "tie", 0.0),
        ("tie", "tie", "tie", 0.5),
        ("first", "tie", "tie", 0.75),
        ("tie", "first", "tie", 0.75),
        ("failed", "second", "failed", None),
        ("first", "failed", "failed", None),
    ],
)
def test_both_orders_must_agree(
    forward: str, backward: str, result: str, first: float | None
) -> None:
    assert combine(forward, backward) == result
    points = shown_first(forward, backward)
    assert np.isnan(points) if first is None else points == first


def test_swapping_the_systems_mirrors_every_result() -> None:
    for forward, backward in itertools.product(PREFERENCES, PREFERENCES):
        assert combine(backward, forward) == mirrored(combine(forward, backward))
        points = shown_first(forward, backward), shown_first(backward, forward)
        assert points[0] == points[1] or np.isnan(points).all()


def test_a_missing_verdict_is_left_out_and_not_a_loss() -> None:
    scores = [SCORES[one] for one in ("first", "tie", "failed", "second", "first")]
    ones = np.ones((1, 5))
    assert weighted_mean(scores, ones) == pytest.approx([2.5 / 4])
    assert weighted_mean(scores, [[0, 0, 7, 2, 1]]) == pytest.approx([1 / 3])
    assert np.isnan(weighted_mean([np.nan, np.nan], np.ones((1, 2)))).all()
    assert np.isnan(length_controlled([np.nan] * 2, [1, 2], [3, 4], np.ones((3, 2)))).all()


def _simulated(
    rows: int, ability: float, fond: float, longer: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Verdicts by the model itself: ability of the first system, fondness of length."""
    generator = np.random.default_rng(seed)
    second = generator.integers(100, 300, rows).astype(float)
    first = second + generator.normal(longer, 60.0, rows)
    gap = first - second
    chance = 1 / (1 + np.exp(-(ability + fond * np.tanh(gap / gap.std()))))
    return (generator.random(rows) < chance).astype(float), first, second


def test_it_is_scikit_learns_logistic_regression() -> None:
    scores, first, second = _simulated(400, 0.4, 1.2, 50.0)
    scores[:40] = 0.5
    weights = row_weights(400, 5, 1)
    rates = length_controlled(scores, first, second, weights)
    gap = first - second
    length = np.tanh(gap / gap.std())[:, None]
    for own, rate in zip(weights, rates, strict=True):
        # A tie is half a win and half a loss.
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
        model.fit(
            np.concatenate([length, length]),
            np.repeat([1, 0], 400),
            np.concatenate([own * scores, own * (1 - scores)]),
        )
        assert rate == pytest.approx(model.predict_proba([[0.0]])[0, 1], abs=1e-5)


@pytest.mark.parametrize("ability", [-0.8, 0.0, 0.5])
def test_length_control_finds_the_ability_of_a_system_with_longer_responses(ability: float) -> None:
    scores, first, second = _simulated(20_000, ability, 1.5, 60.0)
    truth = 1 / (1 + np.exp(-ability))
    ones = np.ones((1, scores.size))
    assert length_controlled(scores, first, second, ones) == pytest.approx([truth], abs=0.02)
    assert weighted_mean(scores, ones)[0] > truth + 0.1


def test_equal_lengths_leave_the_plain_rate() -> None:
    scores = np.array([1.0, 1.0, 0.5, 0.0, np.nan])
    lengths = np.full(5, 80.0)
    weights = row_weights(5, 50, 3)
    plain = weighted_mean(scores, weights)
    there = np.isfinite(plain) & (plain > 0.01) & (plain < 0.99)
    controlled = length_controlled(scores, lengths, lengths, weights)
    assert there.sum() > 20
    assert controlled[there] == pytest.approx(plain[there], abs=1e-7)


def test_a_system_that_always_wins_has_a_finite_rate() -> None:
    lengths = np.arange(30.0)
    rate = length_controlled(np.ones(30), lengths + 5, lengths[::-1], row_weights(30, 20, 0))
    assert np.isfinite(rate).all()
    assert (rate > 0.98).all()


def test_the_interval_of_a_controlled_rate_covers_its_truth() -> None:
    covered = 0
    truth = 1 / (1 + np.exp(-0.5))
    for seed in range(200):
        scores, first, second = _simulated(300, 0.5, 1.0, 40.0, seed)
        rates = length_controlled(scores, first, second, row_weights(300, 300, seed))
        low, high = np.quantile(rates, [0.025, 0.975])
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.985
