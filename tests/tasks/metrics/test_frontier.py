from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.frontier import frontier_gain, hypervolume, pareto_frontier

# Costs 0, 1, 2, 3, 3, 4; the third and the fifth are dominated, the last too.
COSTS = [0.0, 1.0, 2.0, 3.0, 3.0, 4.0]
GAINS = [0.5, 0.7, 0.6, 0.9, 0.8, 0.9]

points = st.lists(
    st.tuples(st.floats(0, 20, width=16), st.floats(0, 1, width=16)), min_size=1, max_size=12
)


def test_the_frontier_holds_what_nothing_dominates() -> None:
    assert pareto_frontier(COSTS, GAINS) == [0, 1, 3]
    assert pareto_frontier([2.0, 2.0], [1.0, 1.0]) == [0]
    assert pareto_frontier([2.0, 1.0], [1.0, 1.0]) == [1]


@given(points)
def test_every_point_is_dominated_or_on_the_frontier(found: list[tuple[float, float]]) -> None:
    costs, gains = zip(*found, strict=True)
    kept = pareto_frontier(costs, gains)
    for cost, gain in found:
        assert any(costs[i] <= cost and gains[i] >= gain for i in kept)
    for one in kept:
        for other in range(len(found)):
            dominates = (
                costs[other] <= costs[one]
                and gains[other] >= gains[one]
                and (costs[other], gains[other]) != (costs[one], gains[one])
            )
            assert not dominates
    assert all(np.diff([costs[i] for i in kept]) > 0)
    assert all(np.diff([gains[i] for i in kept]) > 0)


@pytest.mark.parametrize(
    ("budget", "gain"),
    [(0.0, 0.5), (0.5, 0.6), (1.0, 0.7), (2.0, 0.8), (3.0, 0.9), (3.5, 0.9), (99.0, 0.9)],
)
def test_gain_at_a_budget_is_interpolated_along_the_frontier(budget: float, gain: float) -> None:
    assert frontier_gain(COSTS, GAINS, budget) == pytest.approx(gain)


def test_a_budget_below_the_cheapest_point_has_no_gain() -> None:
    assert np.isnan(frontier_gain([1.0, 2.0], [0.1, 0.2], 0.5))


@given(points, st.floats(0, 25))
def test_gain_agrees_with_numpy_on_the_frontier(
    found: list[tuple[float, float]], budget: float
) -> None:
    costs, gains = zip(*found, strict=True)
    kept = pareto_frontier(costs, gains)
    if budget < costs[kept[0]]:
        return
    expected = np.interp(budget, [costs[i] for i in kept], [gains[i] for i in kept])
    assert frontier_gain(costs, gains, budget) == pytest.approx(expected)


def test_replicates_are_treated_one_by_one() -> None:
    costs, gains = np.array([COSTS, COSTS[::-1]]), np.array([GAINS, GAINS[::-1]])
    assert frontier_gain(costs, gains, 2.0) == pytest.approx([0.8, 0.8])
    volumes = hypervolume(costs, gains, 4.0, np.array([0.5, 0.6]))
    assert volumes == pytest.approx([2 * 0.2 + 1 * 0.4, 2 * 0.1 + 1 * 0.3])


@given(st.lists(st.floats(0, 6), min_size=1, max_size=5))
def test_each_replicate_may_have_its_own_budget(budgets: list[float]) -> None:
    costs, gains = (np.tile(one, (2, len(budgets), 1)) for one in (COSTS, GAINS))
    found = frontier_gain(costs, gains, np.tile(budgets, (2, 1)))
    expected = [float(frontier_gain(COSTS, GAINS, budget)) for budget in budgets]
    np.testing.assert_array_equal(found, [expected, expected])


def test_hypervolume_of_rectangles() -> None:
    # One point: a rectangle to the corner; a dominated or too dear point adds nothing.
    assert hypervolume([2.0], [0.8], 10.0, 0.5) == pytest.approx(8 * 0.3)
    assert hypervolume([2.0, 3.0, 12.0], [0.8, 0.7, 0.99], 10.0, 0.5) == pytest.approx(8 * 0.3)
    assert hypervolume([2.0, 6.0], [0.8, 1.0], 10.0, 0.5) == pytest.approx(4 * 0.3 + 4 * 0.5)
    assert hypervolume([2.0], [0.4], 10.0, 0.5) == 0.0


@given(points, st.floats(0, 20), st.floats(0, 1))
def test_another_point_never_lowers_the_hypervolume(
    found: list[tuple[float, float]], cost: float, gain: float
) -> None:
    costs, gains = map(list, zip(*found, strict=True))
    before = hypervolume(costs, gains, 10.0, 0.2)
    after = hypervolume([*costs, cost], [*gains, gain], 10.0, 0.2)
    assert after >= before - 1e-12
    alone = hypervolume([cost], [gain], 10.0, 0.2)
    assert after >= alone - 1e-12
    assert after <= before + alone + 1e-12


def test_points_need_both_coordinates() -> None:
    with pytest.raises(ValueError, match="make no points"):
        pareto_frontier([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="make no points"):
        hypervolume([], [], 1.0, 0.0)
