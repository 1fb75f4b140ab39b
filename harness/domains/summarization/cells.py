"""Cells of Figure 5: the mean of a metric over posts, at one temperature, in every chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic, are_crossed, draw_seed
from tasks.metrics.chains import ChainValues
from tasks.metrics.significance import FloatArray, row_weights

_MATCHED_REPLICATES = 200
"""Enough for a standard error; each is a curve to be drawn."""

Curve = dict[str, Statistic]
"""Temperature → statistic."""


def post_means(values: Sequence[Any], scale: float) -> FloatArray:
    """Return the mean of each post's samples, (posts,); NaN where none has a value.

    Args:
        values: for each post the value of each sample, or one of all of them, or None.
        scale: factor.
    """
    means = []
    for own in values:
        there = [v for v in (own if isinstance(own, list) else [own]) if v is not None]
        means.append(sum(there) / len(there) if there else float("nan"))
    return scale * np.array(means, dtype=np.float64)


def curves(
    scores: Mapping[str, Sequence[Mapping[str, Any]]],
    items: Mapping[str, Sequence[Sequence[str]]],
    metric: str,
    scale: float,
    settings: StatisticsSettings,
) -> dict[str, Curve]:
    """Compute a metric's curves over the temperature.

    Args:
        scores: row → for each chain, metric → its values as `score_summaries` writes them.
        items: row → for each chain, the posts' ids.
        metric: which.
        scale: factor of the values.
        settings: replicates and seed.

    Returns:
        Row → curve. A temperature at which some chain has no value at all is absent.

    Raises:
        ValueError: if two rows were not measured on the same posts in the same chain.
    """
    crossed = are_crossed(items, metric)
    longest = max(items.values(), key=len)
    draws = [
        row_weights(len(posts), settings.replicates, draw_seed(settings, chain, crossed))
        for chain, posts in enumerate(longest)
    ]
    found: dict[str, Curve] = {}
    for row, chains in scores.items():
        found[row] = {}
        for temperature in chains[0][metric]:
            per_chain = [post_means(chain[metric][temperature], scale) for chain in chains]
            if all(np.isfinite(own).any() for own in per_chain):
                found[row][temperature] = Statistic(_sample(per_chain, draws, crossed))
    return found


def _sample(
    per_chain: Sequence[FloatArray], draws: Sequence[FloatArray], crossed: bool
) -> ChainValues:
    values, drawn = [], []
    for own, weights in zip(per_chain, draws, strict=False):
        there = np.isfinite(own)
        weights = weights * there
        totals = weights.sum(axis=1)
        mean = float(own[there].mean())
        filled = np.where(there, own, 0.0)
        # A draw of posts without any value says nothing; it gets the mean.
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(np.where(totals > 0, weights @ filled / totals, mean))
        values.append(mean)
    least = min(int(np.isfinite(own).sum()) for own in per_chain)
    return ChainValues(np.array(values), np.stack(drawn), least, crossed)


def matched(
    across: Mapping[str, Curve], up: Mapping[str, Curve], baseline: str
) -> dict[str, Statistic]:
    """Compare a metric with the baseline's where both rows have the same value of another.

    In each chain a row's points at the temperatures, sorted by the first metric, are joined by
    lines. The difference up − up_baseline is taken at each of the baseline's points that the row's
    line reaches, and averaged.

    Args:
        across: row → curve of the metric that is held equal.
        up: row → curve of the metric that is compared.
        baseline: a row.

    Returns:
        Row → mean difference; a row whose line reaches no point in some chain is absent.
    """
    found: dict[str, Statistic] = {}
    if baseline not in across:
        return found
    temperatures = [t for t in across[baseline] if all(t in own for own in (*across.values(),))]
    temperatures = [t for t in temperatures if all(t in own for own in up.values())]
    if not temperatures:
        return found
    base_x, base_y = (_stack(own[baseline], temperatures) for own in (across, up))
    for row in across:
        if row not in up:
            continue
        x, y = (_stack(own[row], temperatures) for own in (across, up))
        values = [_difference(x[0][c], y[0][c], base_x[0][c], base_y[0][c]) for c in _chains(x)]
        if any(value is None for value in values):
            continue
        drawn = [
            [
                _difference(x[1][c][r], y[1][c][r], base_x[1][c][r], base_y[1][c][r])
                for r in range(len(x[1][c]))
            ]
            for c in _chains(x)
        ]
        replicates = np.array(
            [
                [value if one is None else one for one in own]
                for own, value in zip(drawn, values, strict=True)
            ],
            dtype=np.float64,
        )
        shape = across[row][temperatures[0]].sample
        sample = ChainValues(
            np.array(values, dtype=np.float64), replicates, shape.items, shape.crossed
        )
        found[row] = Statistic(sample)
    return found


def _chains(stacked: tuple[FloatArray, FloatArray]) -> range:
    return range(len(stacked[0]))


def _stack(curve: Curve, temperatures: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return values (chains, temperatures) and some replicates (chains, R, temperatures)."""
    samples = [curve[temperature].sample for temperature in temperatures]
    return (
        np.stack([sample.values for sample in samples], axis=-1),
        np.stack([sample.replicates[:, :_MATCHED_REPLICATES] for sample in samples], axis=-1),
    )


def _difference(
    x: FloatArray, y: FloatArray, base_x: FloatArray, base_y: FloatArray
) -> float | None:
    order = np.argsort(x, kind="stable")
    reached = (base_x >= x.min() - 1e-9) & (base_x <= x.max() + 1e-9)
    if not reached.any():
        return None
    own = np.interp(base_x[reached], x[order], y[order])
    return float((own - base_y[reached]).mean())
