"""Intervals: bounds belong to a column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic, compare_with, interval
from harness.domains.common.spec import PERCENT, UNBOUNDED, Bounds, ColumnSpec, RowSpec
from harness.domains.common.table import block_json, column_facts

SETTINGS = StatisticsSettings(replicates=200)


def statistic(mean: float, spread: float = 0.3, seed: int = 0) -> Statistic:
    draws = np.random.default_rng(seed).normal(mean, spread, SETTINGS.replicates)
    return Statistic(mean, draws, n=50, seeds=1)


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
    replicates = statistic(mean, spread=10.0).replicates
    free = interval(mean, replicates, UNBOUNDED)["ci95"]
    low, high = interval(mean, replicates, (smallest, largest))["ci95"]
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
    cells = {name: {"c": statistic(mean)} for name, mean in (("a", 1.0), ("b", 5.0), ("c", 9.0))}
    entries = compare_with(cells, "a", ["c"], SETTINGS, dict.fromkeys(cells, "mapo"))
    assert [(entry["row"], entry["method"]) for entry in entries] == [("b", "mapo"), ("c", "mapo")]
    assert all(entry["significant"] for entry in entries)
