"""Known answers and properties of the estimates; their coverage is simulated in test_coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.metrics.chains import (
    PRIOR_DF,
    ChainValues,
    compare_with,
    components,
    detectable_effect,
    estimate,
    prediction_interval,
)
from tasks.metrics.significance import bootstrap_mean, holm


def nested(*values: float, item_sd: float = 1.0, seed: int = 0) -> ChainValues:
    """Chains with items of their own, whose replicates scatter as they would."""
    noise = np.random.default_rng(seed).normal(0.0, item_sd, (len(values), 400))
    noise -= noise.mean(axis=1, keepdims=True)
    return ChainValues(np.array(values), np.array(values)[:, None] + noise, 100)


def scored(scores: np.ndarray, crossed: bool) -> ChainValues:
    """Chains from the score of each item, (C, n)."""
    draws = [
        bootstrap_mean(own, 2000, (7,) if crossed else (7, chain))
        for chain, own in enumerate(scores)
    ]
    return ChainValues(scores.mean(axis=1), np.stack(draws), scores.shape[1], crossed)


@settings(max_examples=30)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10).filter(lambda v: np.ptp(v) > 1e-3))
def test_nested_chains_have_students_interval(values: list[float]) -> None:
    found = estimate(nested(*values))
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(np.array(values)))
    assert (found.low, found.high) == pytest.approx(expected)


def test_one_chain_has_an_interval_over_its_items_and_no_test() -> None:
    only = nested(50.0, item_sd=2.0)
    found = estimate(only)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2.0, rel=0.1)
    better = compare_with(nested(1.0, seed=1), {"better": nested(90.0)})["better"]
    assert better.difference == 89.0
    assert better.p is None
    assert better.low < 89.0 < better.high
    assert detectable_effect({"better": better}, 0.05) is None


def test_shared_items_are_an_error_that_no_number_of_chains_averages_out() -> None:
    generator = np.random.default_rng(1)
    hard = generator.normal(0.0, 10.0, 200)
    scores = 50.0 + hard + generator.normal(0.0, 1.0, (5, 1)) + generator.normal(0, 2, (5, 200))
    crossed, own = components(scored(scores, True)), components(scored(scores, False))
    assert crossed.shared == pytest.approx(100.0 / 200, rel=0.25)
    assert own.shared == 0.0
    assert crossed.between == own.between
    wide, narrow = estimate(scored(scores, True)), estimate(scored(scores, False))
    reach = math.hypot(narrow.high - narrow.mean, stats.t.ppf(0.975, 199) * crossed.shared**0.5)
    assert wide.high - wide.mean == pytest.approx(reach)


def test_chains_with_equal_values_take_their_spread_from_the_items() -> None:
    """Two prompts of 150 lost in each of three chains: no spread, and yet no certainty."""
    losses = np.zeros((3, 150))
    for chain in range(3):
        losses[chain, 2 * chain : 2 * chain + 2] = -100.0
    sample = scored(losses, False)
    assert np.ptp(sample.values) == 0.0
    found = components(sample)
    assert found.between == pytest.approx(100**2 * (2 / 150) * (148 / 150) / 150, rel=0.1)
    zero = sample.minus(sample)
    assert compare_with(zero, {"row": sample})["row"].p == pytest.approx(0.13, abs=0.05)


def test_rows_without_any_difference_have_no_interval_and_no_influence() -> None:
    base = nested(50.0, 60.0, 55.0)
    other = nested(51.0, 60.5, 57.0)
    alone = compare_with(base, {"other": other})
    beside = compare_with(base, {"other": other, "same": base})
    assert (beside["same"].low, beside["same"].high, beside["same"].p) == (0.0, 0.0, 1.0)
    assert beside["other"] == alone["other"]


def test_scores_at_chance_have_the_spread_of_what_the_floor_hides() -> None:
    free = nested(-6.0, -2.0, 2.0)
    floored = ChainValues(np.maximum(free.values, 0), np.maximum(free.replicates, 0), 100)
    cautious, narrow = estimate(floored, before_flooring=free), estimate(floored)
    assert cautious.mean == narrow.mean == pytest.approx(2 / 3)
    assert cautious.high - cautious.low == pytest.approx(estimate(free).high - estimate(free).low)
    assert cautious.high > narrow.high
    high = nested(60.0, 65.0, 70.0)
    assert estimate(high, before_flooring=high) == estimate(high)


def test_a_single_comparison_is_the_paired_t_test() -> None:
    first, second = nested(51.0, 60.5, 57.0, 50.0), nested(50.0, 60.0, 55.0, 50.5)
    found = compare_with(second, {"row": first})["row"]
    expected = stats.ttest_rel(first.values, second.values)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.df == 3.0
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_rows_lend_each_other_degrees_of_freedom() -> None:
    """Nine rows and three chains, worked by hand."""
    generator = np.random.default_rng(3)
    base = nested(*generator.normal(50, 4, 3))
    rows = {f"row{i}": nested(*(base.values + generator.normal(1, 2, 3)), seed=i) for i in range(8)}
    found = compare_with(base, rows)
    variances = {n: float(np.var(r.values - base.values, ddof=1)) for n, r in rows.items()}
    lent = 1 / (1 / PRIOR_DF + 1 / (7 * 2))
    pooled = np.mean(list(variances.values()))
    for name, one in found.items():
        moderated = (lent * pooled + 2 * variances[name]) / (lent + 2)
        assert one.df == pytest.approx(lent + 2)
        assert one.standard_error == pytest.approx(math.sqrt(moderated / 3))
        assert one.p == pytest.approx(
            2 * stats.t.sf(abs(one.difference) / one.standard_error, lent + 2)
        )
    adjusted = holm({name: one.p for name, one in found.items() if one.p is not None})
    assert all(adjusted[name] >= (found[name].p or 0.0) for name in found)


def test_a_model_that_all_chains_start_from_is_a_constant() -> None:
    start = nested(50.0)
    rows = nested(52.0, 53.0, 51.0)
    (found,) = compare_with(start, {"row": rows}).values()
    assert found.difference == pytest.approx(2.0)
    assert found.df == 2.0
    (back,) = compare_with(rows, {"start": start}).values()
    assert back.difference == pytest.approx(-2.0)
    assert back.p == pytest.approx(found.p)
    with pytest.raises(ValueError, match="3 and 2 chains"):
        rows.minus(nested(1.0, 2.0))


def test_prediction_interval_known_answer() -> None:
    low, high = prediction_interval([1.0, 2.0, 3.0], 5)
    reach = stats.t.ppf(0.975, 2) * math.sqrt(1 / 3 + 1 / 5)
    assert (low, high) == pytest.approx((2.0 - reach, 2.0 + reach))
    with pytest.raises(ValueError, match="two chains"):
        prediction_interval([1.0], 5)


def test_a_detectable_effect_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(5)
    found, effects = 0, []
    for trial in range(150):
        base = nested(*generator.normal(50, 4, 5), seed=trial)
        rows = {
            f"row{i}": nested(*(base.values + generator.normal(0, 1, 5)), seed=i) for i in range(8)
        }
        effects.append(detectable_effect(compare_with(base, rows), 0.05))
        # 2.0: what this design says that it finds, see the last line.
        shifted = rows["row0"].values + 2.0
        rows["row0"] = ChainValues(shifted, rows["row0"].replicates, 100)
        p = {name: one.p for name, one in compare_with(base, rows).items() if one.p is not None}
        found += holm(p)["row0"] < 0.05
    assert found / 150 == pytest.approx(0.8, abs=0.08)
    assert np.mean([effect for effect in effects if effect is not None]) == pytest.approx(
        2.0, rel=0.05
    )


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="at least one chain"):
        ChainValues(np.zeros(0), np.zeros((0, 9)), 1)
    with pytest.raises(ValueError, match="2 chains need"):
        ChainValues(np.zeros(2), np.zeros((3, 9)), 1)
    with pytest.raises(ValueError, match="one chain is not defined"):
        components(nested(1.0))
    with pytest.raises(ValueError, match="level"):
        estimate(nested(1.0, 2.0), level=95)
