"""Frontiers of a gain that costs something: reward against KL.

All functions take points of one system as (…, points) arrays, so that a bootstrap's replicates are
treated in one go: the frontier of each replicate is its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def pareto_frontier(costs: ArrayLike, gains: ArrayLike) -> list[int]:
    """Return the points that no other one dominates, by rising cost.

    A point dominates another if it costs no more, gains no less, and differs. Of equal points the
    first stays.

    Args:
        costs: cost of each point, (n,).
        gains: gain of each point, (n,).

    Returns:
        Indices; costs and gains both rise strictly along them.
    """
    cost, gain = _points(costs, gains)
    kept: list[int] = []
    best = -np.inf
    for index in np.lexsort((np.arange(cost.size), -gain, cost)):
        if gain[index] > best:
            kept.append(int(index))
            best = gain[index]
    return kept


def frontier_gain(costs: ArrayLike, gains: ArrayLike, budget: ArrayLike) -> FloatArray:
    """Return the gain of the frontier at a cost, interpolated linearly between its points.

    Beyond the frontier's last point the gain stays: nobody is made to spend the whole budget.

    Args:
        costs: cost of each point, (…, n).
        gains: gain of each point, (…, n).
        budget: the cost, at least that of the cheapest point; a number or (…).

    Returns:
        One gain per leading index, (…); NaN where no point is within the budget.
    """
    cost, best = _sorted_best(costs, gains)
    limit = np.asarray(budget, dtype=np.float64)
    within = cost <= limit[..., None]
    count = within.sum(-1)
    reached = np.where(count > 0, _take(best, np.maximum(count - 1, 0)), np.nan)
    # Where the gain so far was first reached, and where it is next exceeded.
    left = np.argmax(best >= reached[..., None], axis=-1)
    beyond = best > reached[..., None]
    right = np.argmax(beyond, axis=-1)
    from_cost, to_cost = _take(cost, left), _take(cost, right)
    from_gain, to_gain = _take(best, left), _take(best, right)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (limit - from_cost) / (to_cost - from_cost)
        grown = from_gain + share * (to_gain - from_gain)
    return np.where(beyond.any(-1), grown, reached)


def hypervolume(
    costs: ArrayLike, gains: ArrayLike, worst_cost: float, worst_gain: ArrayLike
) -> FloatArray:
    """Return the area that the points dominate within a box.

    ``HV = ∫_{−∞}^{C} max(0, max{g_i : c_i ≤ c} − G) dc`` with the box's corner (C, G): the area of
    the union of the rectangles between each point and the corner.

    Args:
        costs: cost of each point, (…, n).
        gains: gain of each point, (…, n).
        worst_cost: C; dearer points count nothing.
        worst_gain: G, a number or (…); what lies below counts nothing.

    Returns:
        One area per leading index, (…).

    Source:
        Zitzler and Thiele, Multiobjective Optimization Using Evolutionary Algorithms (1998).
    """
    cost, best = _sorted_best(costs, gains)
    floor = np.asarray(worst_gain, dtype=np.float64)
    ends = np.concatenate([cost[..., 1:], np.full_like(cost[..., :1], np.inf)], axis=-1)
    widths = np.clip(np.minimum(ends, worst_cost) - cost, 0.0, None)
    areas: FloatArray = (widths * np.clip(best - floor[..., None], 0.0, None)).sum(-1)
    return areas


def _points(costs: ArrayLike, gains: ArrayLike) -> tuple[FloatArray, FloatArray]:
    cost = np.asarray(costs, dtype=np.float64)
    gain = np.asarray(gains, dtype=np.float64)
    if cost.shape != gain.shape or cost.shape[-1:] == (0,) or cost.ndim == 0:
        raise ValueError(f"costs {cost.shape} and gains {gain.shape} make no points")
    return cost, gain


def _sorted_best(costs: ArrayLike, gains: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return costs in order, and the best gain of each point and the cheaper ones."""
    cost, gain = _points(costs, gains)
    # Of equally dear points the best comes first, so that the others never stand alone.
    order = np.lexsort((-gain, cost), axis=-1)
    cost, gain = np.take_along_axis(cost, order, -1), np.take_along_axis(gain, order, -1)
    return cost, np.maximum.accumulate(gain, axis=-1)


def _take(values: FloatArray, index: NDArray[np.int64]) -> FloatArray:
    taken: FloatArray = np.take_along_axis(values, index[..., None], -1)[..., 0]
    return taken
