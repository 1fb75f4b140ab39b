"""Intervals: bounds belong to a column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic, are_crossed, compare_rows, interval, mean_cells
from harness.domains.common.spec import PERCENT, UNBOUNDED, Bounds, ColumnSpec, RowSpec
from harness.domains.common.table import block_json, column_facts
from tasks.metrics.chains import ChainValues

SETTINGS = StatisticsSettings(replicates=200)


def chains(mean: float, spread: float = 0.3, seed: int = 0, count: int = 3) -> ChainValues:
    draws = np.random.default_rng(seed).normal(0.0, spread, (count, SETTINGS.replicates))
    steps = np.linspace(-spread, spread, count) if count > 1 else np.zeros(1)
    values = mean + np.roll(steps, seed)
    return ChainValues(values, values[:, None] + draws, 50)


def statistic(mean: float, spread: float = 0.3, seed: int = 0, count: int = 3) -> Statistic:
    return Statistic(chains(mean, spread, seed, count))


def test_a_negative_mean_keeps_its_interval() -> None:
    cell = statistic(-0.4).as_json()
    low, high = cell["ci95"]
    assert low < -0.4 < high < 1.0
    low, high = statistic(1e4).as_json()["ci95"]
    assert low < 1e4 < high


def test_an_interval_of_percentages_is_clipped() -> None:
    assert statistic(0.1).as_json(PERCENT)["ci95"][0] == 0.0
    assert statistic(99.9).as_json(PERCENT)["ci95"][1] == 100.0


@given(
    st.floats(-1e3, 1e3),
    st.one_of(st.none(), st.floats(-1e3, 0)),
    st.one_of(st.none(), st.floats(0, 1e3)),
)
def test_an_interval_lies_within_its_bounds_and_is_clipped_nowhere_else(
    mean: float, smallest: float | None, largest: float | None
) -> None:
    sample = chains(mean, spread=10.0)
    free = interval(sample, UNBOUNDED)["ci95"]
    low, high = interval(sample, (smallest, largest))["ci95"]
    assert low == pytest.approx(free[0] if smallest is None else max(free[0], smallest), abs=1e-5)
    assert high == pytest.approx(free[1] if largest is None else min(free[1], largest), abs=1e-5)


def test_each_column_of_a_table_has_its_own_bounds_and_direction() -> None:
    columns = (
        ColumnSpec("accuracy", "Accuracy", bounds=PERCENT),
        ColumnSpec("kl", "KL", higher_is_better=False),
    )
    cells = {"dpo": {"accuracy": statistic(0.1), "kl": statistic(0.1)}}
    rows = [RowSpec("dpo", "dpo", "DPO")]
    (row,) = block_json(rows, columns, cells, SETTINGS, baselines=())["rows"]
    assert row["values"]["accuracy"]["ci95"][0] == 0.0
    assert row["values"]["kl"]["ci95"][0] < 0.0
    facts = column_facts(columns)
    assert facts["higher_is_better"] == {"accuracy": True, "kl": False}
    assert facts["bounds"] == {"accuracy": [0.0, 100.0], "kl": [None, None]}


@pytest.mark.parametrize("bounds", [UNBOUNDED, PERCENT, (0.0, None)])
def test_differences_are_never_clipped(bounds: Bounds) -> None:
    column = ColumnSpec("c", "C", bounds=bounds)
    cells = {"dpo": {"c": statistic(90.0)}, "worse": {"c": statistic(10.0, seed=1)}}
    rows = [RowSpec(name, "dpo", name) for name in cells]
    (entry,) = block_json(rows, (column,), cells, SETTINGS, baselines=("dpo",))["significance"]
    assert entry["ci95"][1] < -70.0
    assert (entry["row"], entry["method"], entry["baseline"]) == ("worse", "dpo", "dpo")


def test_rows_of_one_method_are_compared_with_each_other() -> None:
    cells = {
        name: {"c": statistic(mean, seed=seed)}
        for seed, (name, mean) in enumerate((("a", 1.0), ("b", 5.0), ("c", 9.0)))
    }
    entries = compare_rows(cells, "a", ["c"], SETTINGS, dict.fromkeys(cells, "mapo")).entries
    assert [(entry["row"], entry["method"]) for entry in entries] == [("b", "mapo"), ("c", "mapo")]
    assert all(entry["significant"] for entry in entries)


def test_a_cell_holds_every_chain() -> None:
    cell = statistic(50.0, 3.0).as_json()
    assert cell["seeds"] == 3
    assert cell["per_chain"] == [47.0, 50.0, 53.0]
    assert cell["mean"] == 50.0
    assert cell["item_se"] == pytest.approx(3.0, rel=0.1)


def test_one_chain_has_no_marks_and_detects_nothing() -> None:
    cells = {"dpo": {"c": statistic(90.0, count=1)}, "worse": {"c": statistic(10.0, count=1)}}
    rows = [RowSpec(name, "dpo", name) for name in cells]
    block = block_json(rows, (ColumnSpec("c", "C"),), cells, SETTINGS, baselines=("dpo",))
    (entry,) = block["significance"]
    assert (entry["p"], entry["p_holm"], entry["df"]) == (None, None, None)
    assert entry["significant"] is False
    assert block["detectable"] == {}


def test_chains_are_crossed_where_their_items_are_the_same() -> None:
    same, own = ["x", "y"], [["x"], ["y"], ["z"]]
    assert are_crossed({"sft": [same], "dpo": [same, same, same]}, "c")
    assert not are_crossed({"sft": own, "dpo": own}, "c")
    with pytest.raises(ValueError, match="different rows"):
        are_crossed({"sft": own, "dpo": own[::-1]}, "c")
    with pytest.raises(ValueError, match="one chain was measured on different rows"):
        are_crossed({"sft": own[:1], "dpo": own}, "c")
    with pytest.raises(ValueError, match="2 and 3 chains"):
        are_crossed({"sft": own[:2], "dpo": own}, "c")


def test_nested_items_are_drawn_apart_and_paired_within_a_chain() -> None:
    def scores(prefix: str, hits: int) -> dict[str, float]:
        return {f"{prefix}{i}": float(i < hits) for i in range(40)}

    own = {name: [scores(p, hits) for p in "abc"] for name, hits in (("dpo", 20), ("tdpo1", 20))}
    cells = mean_cells(own, "w", SETTINGS)
    first, second = cells["dpo"]["w"].sample, cells["tdpo1"]["w"].sample
    assert not first.crossed
    assert (first.replicates == second.replicates).all()
    assert (first.replicates[0] != first.replicates[1]).any()
    shared = mean_cells({"dpo": [scores("a", 20)] * 3}, "w", SETTINGS)["dpo"]["w"].sample
    assert shared.crossed
    assert (shared.replicates[0] == shared.replicates[1]).all()
