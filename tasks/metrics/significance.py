"""Significance of differences: bootstraps over items or prompts, McNemar, Holm, what can be found.

A replicate draws items with replacement. The same seed gives every system of the same items the
same draws, so that differences are paired replicate by replicate. What varies from one complete
repetition of an experiment to the next is not in these replicates: `tasks.metrics.chains`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist

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


def detectable_difference(
    error: float, comparisons: int = 1, alpha: float = 1.0 - LEVEL, power: float = 0.8
) -> float:
    """Return the smallest true difference that a test finds with a given probability.

    ``error · (z_{1 − α/(2M)} + z_power)``: M comparisons share α, as in Holm's first step.
    A difference that was not found and is smaller than this is undecided, not absent.

    Args:
        error: standard error of the difference.
        comparisons: number of comparisons M ≥ 1.
        alpha: probability of any false rejection.
        power: probability of finding the difference.

    Returns:
        In the unit of `error`.
    """
    quantile = NormalDist().inv_cdf
    return error * (quantile(1.0 - alpha / (2.0 * comparisons)) + quantile(power))


@dataclass(frozen=True, slots=True)
class SystemMean:
    """A system's mean over prompts."""

    mean: float
    ci95: tuple[float, float]
    prompts: int
    """Prompts with a value."""


def system_mean(scores: ArrayLike, replicates: int = 10_000, seed: int = 0) -> SystemMean | None:
    """Bootstrap a system's mean, clustered by prompt.

    Samples of one prompt are not independent: prompts are drawn, each with all of its samples. The
    replicates' deviations from the mean are widened by ``√(n/(n − 1))``, because a bootstrap's
    variance is that of n values divided by n.

    Args:
        scores: one value per prompt, (n,), or per prompt and sample, (n, samples); NaN is missing.
        replicates: number of bootstrap replicates.
        seed: of the draws.

    Returns:
        The mean and its 95 % interval; ``None`` if fewer than two prompts have a value.

    Source:
        Field and Welsh, Bootstrapping clustered data (2007); Efron and Tibshirani, An Introduction
        to the Bootstrap (1993).
    """
    values = _per_prompt(scores)
    values = values[~np.isnan(values)]
    if values.size < 2:
        return None
    deviations = _deviations(values, replicates, seed)
    return SystemMean(float(values.mean()), _interval(values, deviations), values.size)


@dataclass(frozen=True, slots=True)
class SystemComparison:
    """Two systems on the same prompts."""

    first: str
    second: str
    difference: float | None
    """Mean of the first system minus that of the second; ``None`` without two common prompts."""
    ci95: tuple[float, float] | None
    p: float | None
    """Two-sided."""
    p_holm: float | None
    """Adjusted for all comparisons of the call."""
    prompts: int
    """Prompts on which both systems have a value."""
    detectable: float | None
    """The difference that this sample finds with a probability of 80 %, Holm included."""


def compare_systems(
    scores: Mapping[str, ArrayLike],
    baseline: str | None = None,
    replicates: int = 10_000,
    seed: int = 0,
) -> list[SystemComparison]:
    """Compare systems pairwise by a bootstrap of their difference, clustered by prompt.

    With d_i the difference of two systems' means over the samples of prompt i, and d̄ its mean,
    prompts are drawn with replacement, the same for both systems and for all comparisons:
    ``p = (1 + #{r: |d̄*_r − d̄| ≥ |d̄|}) / (R + 1)``, deviations widened as in `system_mean`. The
    p-values are adjusted by Holm over the comparisons.

    Args:
        scores: system → values, (prompts,) or (prompts, samples), in one order of prompts; NaN is
            missing. A prompt counts where both systems have a value.
        baseline: compare every other system with this one; ``None`` for all pairs.
        replicates: number R of bootstrap replicates.
        seed: of the draws.

    Returns:
        The comparisons, in the order of `scores`.

    Raises:
        ValueError: the baseline is none of the systems, or they have different numbers of prompts.

    Source:
        Koehn, Statistical Significance Tests for Machine Translation Evaluation (2004), with the
        null distribution of Efron and Tibshirani (1993), chapter 16.
    """
    values = {name: _per_prompt(given) for name, given in scores.items()}
    if len({one.size for one in values.values()}) > 1:
        raise ValueError("the systems have different numbers of prompts")
    if baseline is not None and baseline not in values:
        raise ValueError(f"the baseline {baseline} is not among the systems")
    if baseline is None:
        pairs = list(combinations(values, 2))
    else:
        pairs = [(name, baseline) for name in values if name != baseline]
    found = {pair: _compare(values[pair[0]], values[pair[1]], replicates, seed) for pair in pairs}
    tested = {"\0".join(pair): one[2] for pair, one in found.items() if one is not None}
    adjusted = holm(tested)
    comparisons = []
    for (first, second), one in found.items():
        both = int((~np.isnan(values[first] - values[second])).sum())
        if one is None:
            comparisons.append(SystemComparison(first, second, None, None, None, None, both, None))
            continue
        difference, interval, p, error = one
        comparisons.append(
            SystemComparison(
                first,
                second,
                difference,
                interval,
                p,
                adjusted[f"{first}\0{second}"],
                both,
                detectable_difference(error, len(tested)),
            )
        )
    return comparisons


def _per_prompt(scores: ArrayLike) -> FloatArray:
    """Return the mean over the samples of each prompt that have a value, (prompts,)."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim == 1:
        return values
    counts = (~np.isnan(values)).sum(axis=1)
    sums = np.nansum(values, axis=1)
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _compare(
    first: FloatArray, second: FloatArray, replicates: int, seed: int
) -> tuple[float, tuple[float, float], float, float] | None:
    """Return difference, interval, p and standard error; None with fewer than two prompts."""
    differences = first - second
    differences = differences[~np.isnan(differences)]
    if differences.size < 2:
        return None
    mean = float(differences.mean())
    deviations = _deviations(differences, replicates, seed)
    # Rounding must not make systems that are equal everywhere differ.
    beyond = int((np.abs(deviations) >= abs(mean) - 1e-12).sum())
    p = (1 + beyond) / (replicates + 1)
    return mean, _interval(differences, deviations), p, float(deviations.std(ddof=1))


def _deviations(values: FloatArray, replicates: int, seed: int) -> FloatArray:
    """Return how far the mean of each bootstrap replicate is from the sample's, widened, (R,)."""
    n = values.size
    drawn: FloatArray = _draws(n, replicates, seed) @ (values - values.mean()) / n
    return drawn * math.sqrt(n / (n - 1))


@lru_cache(maxsize=2)
def _draws(rows: int, replicates: int, seed: int) -> FloatArray:
    """Return `row_weights`, drawn once for all comparisons of the same prompts."""
    weights = row_weights(rows, replicates, seed)
    weights.setflags(write=False)
    return weights


def _interval(values: FloatArray, deviations: FloatArray) -> tuple[float, float]:
    low, high = percentile_interval(deviations)
    return float(values.mean()) + low, float(values.mean()) + high
