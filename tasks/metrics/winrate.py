"""Win rates from the scores of comparisons: plain and length-controlled.

Functions take weights of the comparisons, one line per bootstrap replicate, so that systems are
paired by equal draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from tasks.metrics.significance import FloatArray

LENGTH_PENALTY = 1.0
"""Ridge penalty λ on the coefficient of length: a standard normal prior, worth about one
comparison. It keeps a system that always wins with the longer response from a coefficient without
bound."""
_LARGEST = 12.0
"""Largest |θ|, a win rate of 99.9994 %: a system that wins always has no finite maximum."""


def weighted_mean(scores: ArrayLike, weights: ArrayLike) -> FloatArray:
    """Average the scores that are there: ``Σ w_i s_i / Σ w_i`` over i with a score.

    Args:
        scores: of each comparison, in [0, 1] or NaN, (n,).
        weights: (R, n).

    Returns:
        One mean per line of weights, (R,); NaN where no comparison has a score.
    """
    values, drawn = np.asarray(scores, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    there = np.isfinite(values)
    total = drawn[:, there].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: FloatArray = drawn[:, there] @ values[there] / total
    return mean


def length_controlled(
    scores: ArrayLike,
    first_lengths: ArrayLike,
    second_lengths: ArrayLike,
    weights: ArrayLike,
    penalty: float = LENGTH_PENALTY,
) -> FloatArray:
    """Estimate the win rate that a system would have with responses as long as its opponent's.

    A logistic regression on the difference of lengths, fitted for the pair of systems,

        P(first wins | i) = σ(θ + φ · tanh(Δ_i / SD(Δ))),   Δ_i = first length − second length,

    by maximum likelihood with the penalty λφ²/2; ties count as half a win. The rate is what it
    predicts for Δ = 0: σ(θ). AlpacaEval's model has a third term, the difficulty of each
    instruction, which it estimates beforehand from the many models on its leaderboard; here
    there are none to estimate it from.

    Args:
        scores: of each comparison, in [0, 1] or NaN, (n,).
        first_lengths: characters of the system's responses, (n,).
        second_lengths: characters of its opponent's, (n,).
        weights: (R, n).
        penalty: λ.

    Returns:
        One rate per line of weights, (R,); NaN where no comparison has a score.

    Source:
        Dubois, Galambosi, Liang and Hashimoto, Length-Controlled AlpacaEval (2024), equation 2.
    """
    values, drawn = np.asarray(scores, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    there = np.isfinite(values)
    if not there.any():
        return np.full(len(drawn), np.nan)
    gap = (np.asarray(first_lengths, float) - np.asarray(second_lengths, float))[there]
    spread = float(gap.std())
    length = np.tanh(gap / spread) if spread > 0.0 else np.zeros_like(gap)
    values, drawn = values[there], drawn[:, there]
    start = _fit(values, length, np.ones((1, values.size)), penalty, np.zeros((1, 2)))
    fitted = _fit(values, length, drawn, penalty, np.repeat(start, len(drawn), axis=0))
    rate: FloatArray = expit(fitted[:, 0])
    return np.where(drawn.sum(axis=1) > 0.0, rate, np.nan)


def _fit(
    values: FloatArray, length: FloatArray, weights: FloatArray, penalty: float, start: FloatArray
) -> FloatArray:
    """Return (θ, φ) for every line of weights, by Newton's method, (R, 2).

    All lines are fitted at once: thousands of fits of scikit-learn's would take minutes.
    """
    theta, phi = start[:, 0].copy(), start[:, 1].copy()
    squared = length * length
    won, won_at_length = weights @ values, weights @ (values * length)
    for _ in range(60):
        logit = phi[:, None] * length
        logit += theta[:, None]
        predicted = expit(logit, out=logit)
        expected = weights * predicted
        g0 = expected.sum(axis=1) - won
        g1 = expected @ length - won_at_length + penalty * phi
        # w·p becomes w·p·(1 − p), in place: these arrays are the cost of the fit.
        predicted *= expected
        expected -= predicted
        h00 = expected.sum(axis=1) + 1e-9
        h01, h11 = expected @ length, expected @ squared + penalty
        determinant = h00 * h11 - h01 * h01
        # Short steps, because Newton's method overshoots where nearly everything is won.
        step0 = np.clip((h11 * g0 - h01 * g1) / determinant, -2.0, 2.0)
        step1 = np.clip((h00 * g1 - h01 * g0) / determinant, -2.0, 2.0)
        moved = np.clip(theta - step0, -_LARGEST, _LARGEST)
        change = max(float(np.abs(moved - theta).max()), float(np.abs(step1).max()))
        theta, phi = moved, phi - step1
        # The error after a step is of the order of its square.
        if change < 1e-5:
            break
    return np.stack([theta, phi], axis=1)
