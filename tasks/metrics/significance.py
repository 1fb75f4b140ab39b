"""A seeded bootstrap over the items of an evaluation, and the adjustment of p-values.

A replicate draws items with replacement. The same seed gives every system of the same items the
same draws, so that differences are paired replicate by replicate. What varies from one complete
repetition of an experiment to the next is not in these replicates: `tasks.metrics.chains`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

LEVEL = 0.95


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


def bootstrap_mean(scores: ArrayLike, replicates: int, seed: int | Sequence[int]) -> FloatArray:
    """Bootstrap the mean score of a system over its items.

    Args:
        scores: score of each item, (n,).
        replicates: number of replicates R.
        seed: of the generator; equal seeds pair systems that were scored on the same items.

    Returns:
        The mean in each replicate, (R,).

    Raises:
        ValueError: if there are no scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise ValueError("the mean of no scores is not defined")
    drawn: FloatArray = row_weights(values.size, replicates, seed) @ values / values.size
    return drawn


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
