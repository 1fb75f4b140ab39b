"""Intervals and comparisons of systems that were scored on the same rows.

Everything rests on one seeded bootstrap, crossed over rows and seeds: a replicate draws rows
with replacement (stratified, the same draw for every system) and training seeds with
replacement (the same draw for systems with equally many seeds), computes the statistic of each
drawn seed and averages over the drawn seeds. Differences of two systems are taken replicate by
replicate, hence paired. With three seeds the spread over seeds is estimated from three values:
such intervals are honest about rows and only rough about seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired difference of two systems, first minus second."""

    difference: float
    low: float
    high: float
    """Percentile interval of the difference at the level asked for."""
    p: float
    """Two-sided bootstrap p-value of "no difference"."""


def row_weights(rows: int, replicates: int, seed: int | Sequence[int]) -> FloatArray:
    """Draw how often each row occurs in each bootstrap replicate.

    Args:
        rows: number of rows n ≥ 1.
        replicates: number of replicates R.
        seed: of the generator; the same seed pairs systems.

    Returns:
        Counts, (R, n); each line sums to n.
    """
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(rows, np.full(rows, 1.0 / rows), size=replicates)
    return counts.astype(np.float64)


def seed_draws(seeds: int, replicates: int, seed: int) -> IntArray:
    """Draw which training seeds each bootstrap replicate averages over.

    Args:
        seeds: number of seeds S ≥ 1 of a system.
        replicates: number of replicates R.
        seed: of the generator; systems with equal S get equal draws.

    Returns:
        Indices, (R, S).
    """
    generator = np.random.default_rng((seed, seeds))
    return generator.integers(0, seeds, size=(replicates, seeds))


def average_drawn_seeds(per_seed: ArrayLike, draws: IntArray) -> FloatArray:
    """Average replicates of a statistic over the seeds that were drawn.

    Args:
        per_seed: the statistic of each seed in each replicate, (R, S).
        draws: from `seed_draws`, (R, S).

    Returns:
        One value per replicate, (R,).
    """
    values = np.asarray(per_seed, dtype=np.float64)
    averaged: FloatArray = np.take_along_axis(values, draws, axis=1).mean(axis=1)
    return averaged


def bootstrap_mean(scores: ArrayLike, replicates: int, seed: int) -> FloatArray:
    """Bootstrap the mean score of a system, over rows and seeds.

    Args:
        scores: score of each row under each seed, (S, n).
        replicates: number of replicates R.
        seed: of the generator; equal seeds pair systems that were scored on the same rows.

    Returns:
        The mean in each replicate, (R,).

    Raises:
        ValueError: if there are no scores.
    """
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    seeds, rows = values.shape
    if rows == 0 or seeds == 0:
        raise ValueError("the mean of no scores is not defined")
    per_seed = row_weights(rows, replicates, seed) @ values.T / rows
    return average_drawn_seeds(per_seed, seed_draws(seeds, replicates, seed))


def percentile_interval(
    replicates: ArrayLike, level: float = LEVEL, estimate: float | None = None
) -> tuple[float, float]:
    """Return the percentile bootstrap interval, without its bias where the estimate is given.

    A score that is floored at chance sub-task by sub-task is larger in a resample than in the
    sample, on average: noise below the floor is cut, noise above is not. The replicates are
    therefore shifted by the bootstrap's estimate of bias, ``θ*_r − (mean(θ*) − θ)``; without a
    floor the shift is next to nothing.

    Args:
        replicates: values of a statistic, (R,).
        level: its nominal coverage in (0, 1).
        estimate: the statistic θ of the sample itself; None for no shift.

    Returns:
        (low, high), which contains the estimate where one is given.

    Raises:
        ValueError: for a level outside (0, 1).

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), sections 10.2 and 13.3.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    tail = (1.0 - level) / 2.0
    values = without_bias(replicates, estimate)
    low, high = (float(bound) for bound in np.quantile(values, [tail, 1.0 - tail]))
    return (low, high) if estimate is None else (min(low, estimate), max(high, estimate))


def without_bias(replicates: ArrayLike, estimate: float | None) -> FloatArray:
    """Shift replicates so that their mean is the estimate, (R,); unchanged without one."""
    values = np.asarray(replicates, dtype=np.float64)
    return values if estimate is None else values - (values.mean() - estimate)


def two_sided_p(differences: ArrayLike) -> float:
    """Return the two-sided bootstrap p-value of a difference of zero.

    ``min(1, 2 · (1 + min(#{d ≤ 0}, #{d ≥ 0})) / (1 + R))``; the added one keeps a p-value from
    being smaller than R replicates can tell.

    Args:
        differences: paired differences, (R,).

    Returns:
        A value in (0, 1].

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application (1997), section 4.2.
    """
    values = np.asarray(differences, dtype=np.float64)
    smaller = min(int((values <= 0.0).sum()), int((values >= 0.0).sum()))
    return min(1.0, 2.0 * (1 + smaller) / (1 + values.size))


def compare(
    first: ArrayLike, second: ArrayLike, difference: float, level: float = LEVEL
) -> Comparison:
    """Compare two systems by their paired bootstrap replicates.

    Both the differences as they are and the differences without their bias are looked at, and the
    more cautious answer of the two is given: the bias of floored scores may pass for a difference,
    and the shift that takes it away would move replicates without any difference (most of them,
    where two systems differ on few rows) to one side of zero.

    Args:
        first: replicates of one system's statistic, (R,).
        second: replicates of the other's, made with the same draws, (R,).
        difference: the observed difference, first minus second.
        level: nominal coverage of the interval.

    Returns:
        The difference with its interval and p-value.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    shifted = without_bias(differences, difference)
    intervals = [percentile_interval(values, level) for values in (differences, shifted)]
    low = min(difference, *(interval[0] for interval in intervals))
    high = max(difference, *(interval[1] for interval in intervals))
    return Comparison(difference, low, high, max(two_sided_p(differences), two_sided_p(shifted)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values of one family of comparisons for their number.

    Sorted ascending, ``p̃_(i) = max_{j ≤ i} min(1, (m − j + 1) · p_(j))``: rejecting where
    p̃ < α keeps the probability of any false rejection below α.

    Args:
        p_values: one per comparison.

    Returns:
        Adjusted p-values under the same names.

    Source:
        Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    ordered = sorted(p_values.items(), key=lambda item: (item[1], item[0]))
    for rank, (name, p) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


@dataclass(frozen=True, slots=True)
class McNemar:
    """An exact McNemar test of two systems' passes and failures on the same items."""

    only_first: int
    """Items that only the first system passes."""
    only_second: int
    p: float
    """Two-sided exact p-value."""


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Test whether two systems pass equally often, from their results on the same items.

    With b and c the numbers of items that only one system passes, b ~ Binomial(b + c, 1/2) if
    they are equally good: ``p = min(1, 2 · P(X ≤ min(b, c)))``.

    Args:
        first: whether the first system passes each item, (n,).
        second: whether the second one does, (n,).

    Returns:
        The two counts and the p-value, 1 if the systems never differ.

    Raises:
        ValueError: if the lengths differ.

    Source:
        McNemar, Note on the sampling error of the difference between correlated proportions
        (1947); the exact binomial form.
    """
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != two.shape:
        raise ValueError(f"the systems have {one.size} and {two.size} results")
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    trials = only_first + only_second
    tail = range(min(only_first, only_second) + 1)
    # Logarithms, because 2^trials leaves the range of floats at some thousand items.
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in tail
    ]
    total = sum(math.exp(log - trials * math.log(2.0)) for log in logs)
    return McNemar(only_first, only_second, min(1.0, 2.0 * total))
