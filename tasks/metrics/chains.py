"""Means and comparisons over chains: complete repetitions of an experiment.

A chain is everything from the data to the last evaluation under one seed. Chains are the outer
level of the design, the items (prompts, problems, benchmark rows) that a chain is scored on the
inner one. With v_c the value of chain c,

    v_c = μ + A_c + b + u_c,

where A_c is what a repetition changes (base model, training, sampling), b the error of items that
all chains share (none where each chain has items of its own) and u_c that of a chain's own items.
The spread of the v_c contains A_c and u_c, and only the bootstrap over items knows b. Every
formula is derived in docs/statistics.md, and benchmarks/coverage.py simulates them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from tasks.metrics.significance import LEVEL, FloatArray, percentile_interval

PRIOR_DF = 4.0
"""Degrees of freedom that the rows of a column lend each other for the variance of a difference.

The prior is an inverse χ² distribution. With four degrees of freedom its central 95 % contain
standard deviations that differ by a factor of 4.8, about as much as methods do.
"""
POWER = 0.8
"""Probability with which a detectable effect is found."""


@dataclass(frozen=True, slots=True)
class ChainValues:
    """One quantity in every chain, such as a method's score or a difference of two scores."""

    values: FloatArray
    """One value per chain, (C,)."""
    replicates: FloatArray
    """Bootstrap replicates over the items of each chain, (C, R)."""
    items: int
    """Number of items n in a chain."""
    crossed: bool = False
    """Whether all chains are scored on the same items; the replicates then share their draws."""

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: if there is no chain, or not one row of replicates per chain.
        """
        if self.values.ndim != 1 or self.values.size == 0:
            raise ValueError("a quantity needs the value of at least one chain")
        if self.replicates.ndim != 2 or len(self.replicates) != len(self.values):
            raise ValueError(
                f"{len(self.values)} chains need as many rows of replicates, not "
                f"an array of shape {self.replicates.shape}"
            )

    @property
    def chains(self) -> int:
        """Return the number of chains C."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Return the mean over chains."""
        return float(self.values.mean())

    @property
    def item_variance(self) -> float:
        """Return the variance that a chain's value has because its items are a sample."""
        return float(self.replicates.var(axis=1).mean())

    def minus(self, other: ChainValues) -> ChainValues:
        """Return the difference chain by chain and replicate by replicate.

        A quantity of a single chain counts as the same in every chain of the other; that is right
        for a starting model that all chains share, whose own variation is then in no interval.

        Raises:
            ValueError: if both have several chains, but not equally many.
        """
        if self.chains != other.chains and 1 not in (self.chains, other.chains):
            raise ValueError(f"{self.chains} and {other.chains} chains cannot be paired")
        return ChainValues(
            self.values - other.values,
            self.replicates - other.replicates,
            min(self.items, other.items),
            self.crossed or other.crossed,
        )


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of the variance of a mean over chains: ``variance = between / C + shared``."""

    between: float
    """s², the variance over chains; it contains each chain's own items."""
    shared: float
    """σ_b²/n, the variance because of items that all chains share."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over chains with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A difference of two systems, paired by chain, first minus second."""

    difference: float
    low: float
    high: float
    standard_error: float
    p: float | None
    """Two-sided p-value of "no difference"; None with one chain, which has none."""
    df: float | None
    """Degrees of freedom; None with one chain."""


def components(sample: ChainValues) -> Components:
    """Split the variance of a mean over C ≥ 2 chains.

    ``s² = Σ_c (v_c − v̄)² / (C − 1)``. With V_c the bootstrap variance of chain c over its items
    and V̄ that of the mean over chains, ``shared = max(0, (C·V̄ − mean_c V_c) / (C − 1))`` where
    the chains have their items in common, and 0 where they do not. Chains with exactly equal
    values, as scores on few items can be, say nothing of their spread; the variance of a chain's
    own items then takes the place of s².

    Raises:
        ValueError: for a single chain.
    """
    count = sample.chains
    if count < 2:
        raise ValueError("the spread over one chain is not defined")
    shared = 0.0
    if sample.crossed:
        of_mean = float(sample.replicates.mean(axis=0).var())
        shared = max(0.0, (count * of_mean - sample.item_variance) / (count - 1))
    values = sample.values
    if np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return Components(max(0.0, sample.item_variance - shared), shared)
    return Components(float(values.var(ddof=1)), shared)


def estimate(
    sample: ChainValues, level: float = LEVEL, before_flooring: ChainValues | None = None
) -> Estimate:
    """Estimate the mean of the population of chains.

    ``v̄ ± √(t²_{C−1} · s²/C + t²_{n−1} · shared)``; where every chain has items of its own, that is
    Student's interval. With one chain the interval is the bootstrap's over items and says nothing
    about another chain.

    Scores that are floored at chance vary too little below it, where several chains may all have 0.
    The spread of the scores before flooring, which is at least as large, then decides.

    Args:
        sample: values and replicates.
        level: nominal coverage.
        before_flooring: the same scores on the same scale without their floor.

    Returns:
        The mean with its interval.

    Source:
        Burdick and Graybill, Confidence Intervals on Variance Components (1992): the parts of a
        variance each with their own quantile. Satterthwaite's degrees of freedom, for which the
        variance over few chains is estimated once more, give intervals that are too short here.
    """
    if sample.chains == 1:
        low, high = percentile_interval(sample.replicates[0], level, estimate=sample.mean)
        return Estimate(sample.mean, low, high)
    parts = [components(one) for one in (sample, before_flooring) if one is not None]
    between, shared = (max(values) for values in zip(*map(astuple, parts), strict=True))
    over_chains = _t_quantile(sample.chains - 1, level) * math.sqrt(between / sample.chains)
    over_items = _t_quantile(max(1, sample.items - 1), level) * math.sqrt(shared)
    reach = math.hypot(over_chains, over_items)
    return Estimate(sample.mean, sample.mean - reach, sample.mean + reach)


def prediction_interval(
    values: Sequence[float], chains: int, level: float = LEVEL
) -> tuple[float, float]:
    """Return where the mean of another run of the same experiment is expected.

    ``v̄ ± t_{C−1} · s · √(1/C + 1/C')``. Items that both runs share cancel, so that only the
    spread over chains counts.

    Args:
        values: those of this run's chains, C ≥ 2.
        chains: number of chains C' of the other run.
        level: nominal coverage.

    Returns:
        (low, high).

    Raises:
        ValueError: for a single value, or no chain.
    """
    own = np.asarray(values, dtype=np.float64)
    if own.size < 2 or chains < 1:
        raise ValueError("a prediction needs two chains here and one there")
    error = math.sqrt(float(own.var(ddof=1)) * (1.0 / own.size + 1.0 / chains))
    reach = _t_quantile(own.size - 1, level) * error
    return float(own.mean()) - reach, float(own.mean()) + reach


def compare_with(
    baseline: ChainValues,
    rows: Mapping[str, ChainValues],
    level: float = LEVEL,
    prior_df: float = PRIOR_DF,
) -> dict[str, Comparison]:
    """Compare the rows of a column with one of them, paired by chain.

    With s_m² the variance over chains of the differences of row m, ν = C − 1, and s_0² the mean of
    the s_m² over the M rows that vary, the variance is moderated:

        s̃_m² = (d·s_0² + ν·s_m²) / (d + ν),   1/d = 1/d_0 + 1/((M − 1)·ν),

    and the difference is tested by Student's t with d + ν degrees of freedom (Satterthwaite's
    with items that chains share). A single row has nobody to learn from, and keeps ν. Differences
    that are exactly zero everywhere have p = 1 and the interval [0, 0].

    Args:
        baseline: what is subtracted.
        rows: by name; paired with the baseline by chains and by the draws of items.
        level: nominal coverage of the intervals.
        prior_df: d_0, degrees of freedom of the prior; 0 tests each row by itself, infinity takes
            all rows to have one variance.

    Returns:
        One comparison per row, not adjusted for their number.

    Source:
        Smyth, Linear models and empirical Bayes methods for assessing differential expression
        (2004), section 3, with a prior whose degrees of freedom are given.
    """
    differences = {name: row.minus(baseline) for name, row in rows.items()}
    parts = {name: components(sample) for name, sample in differences.items() if sample.chains > 1}
    varying = [part.between for part in parts.values() if part.between > 0.0]
    pooled = float(np.mean(varying)) if varying else 0.0
    found: dict[str, Comparison] = {}
    for name, sample in differences.items():
        if sample.chains == 1:
            found[name] = _items_alone(sample, level)
            continue
        part, own_df = parts[name], sample.chains - 1
        if part.between == part.shared == 0.0 and sample.mean == 0.0:
            found[name] = Comparison(0.0, 0.0, 0.0, 0.0, 1.0, float(own_df))
            continue
        lent = _lent_df(len(varying), own_df, prior_df)
        between = (lent * pooled + own_df * part.between) / (lent + own_df)
        error, df = _error(sample, between, lent + own_df, part.shared)
        reach = _t_quantile(df, level) * error
        ratio = abs(sample.mean) / error if error > 0.0 else math.inf
        found[name] = Comparison(
            sample.mean,
            sample.mean - reach,
            sample.mean + reach,
            error,
            float(2.0 * stdtr(df, -ratio)),
            df,
        )
    return found


def detectable_effect(
    comparisons: Mapping[str, Comparison], alpha: float, power: float = POWER
) -> float | None:
    """Return the smallest true difference that a column of comparisons would probably find.

    ``median_m SE_m · (t_{df_m, 1 − α/(2M)} + t_{df_m, power})``: M comparisons, the first of which
    Holm's procedure tests at α/M.

    Args:
        comparisons: those of one column.
        alpha: threshold for adjusted p-values.
        power: probability of finding it.

    Returns:
        The difference in the column's unit; None where no comparison has a test.
    """
    tested = [one for one in comparisons.values() if one.df is not None]
    if not tested:
        return None
    adjusted = 1.0 - alpha / (2.0 * len(comparisons))
    effects = [
        one.standard_error * (float(stdtrit(one.df, adjusted)) + float(stdtrit(one.df, power)))
        for one in tested
    ]
    return float(np.median(effects))


def _items_alone(sample: ChainValues, level: float) -> Comparison:
    """The interval of one chain, whose difference cannot be told from a chance of the chain."""
    # With and without the bootstrap's bias, whichever reaches further: the bias of floored scores
    # may pass for a difference, and its correction breaks ties at zero.
    drawn, mean = sample.replicates[0], sample.mean
    ends = [percentile_interval(drawn, level), percentile_interval(drawn, level, estimate=mean)]
    return Comparison(
        mean,
        min(mean, *(low for low, _ in ends)),
        max(mean, *(high for _, high in ends)),
        math.sqrt(sample.item_variance),
        None,
        None,
    )


def _lent_df(rows: int, own_df: int, prior_df: float) -> float:
    """Degrees of freedom that the other rows lend: their prior's, and those it is estimated by."""
    if rows < 2 or prior_df == 0.0:
        return 0.0
    return 1.0 / (1.0 / prior_df + 1.0 / ((rows - 1) * own_df))


def _error(
    sample: ChainValues, between: float, between_df: float, shared: float
) -> tuple[float, float]:
    """Return the standard error of the mean and Satterthwaite's degrees of freedom."""
    own = between / sample.chains
    variance = own + shared
    if shared == 0.0:
        return math.sqrt(variance), float(between_df)
    df = variance**2 / (own**2 / between_df + shared**2 / max(1, sample.items - 1))
    return math.sqrt(variance), float(df)


def _t_quantile(df: float, level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    return float(stdtrit(df, (1.0 + level) / 2.0))
