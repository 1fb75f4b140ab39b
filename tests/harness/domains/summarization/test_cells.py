from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic
from harness.domains.summarization.cells import curves, matched, post_means
from harness.domains.summarization.results import adjust_over
from harness.domains.summarization.work.correlations import _spearman
from tasks.metrics.chains import ChainValues
from tasks.metrics.significance import holm

SETTINGS = StatisticsSettings(replicates=200)


def statistic(*chains: float) -> Statistic:
    values = np.array(chains)
    return Statistic(ChainValues(values, np.repeat(values[:, None], 3, axis=1), 10))


def test_means_leave_out_what_is_missing() -> None:
    found = post_means([[0.5, None, 1.0], [None, None], 0.25, None], 100.0)
    assert found[:3:2].tolist() == [75.0, 25.0]
    assert np.isnan(found[[1, 3]]).all()


def test_curves_are_means_over_posts_of_every_chain() -> None:
    scores: dict[str, list[Any]] = {
        "dpo": [
            {"m": {"0": [[0.2, 0.4], [0.6, 0.6]], "1": [[None, None], [0.5, 0.5]]}},
            {"m": {"0": [[0.1, 0.1], [0.3, 0.3]], "1": [[None, None], [None, None]]}},
        ]
    }
    items = {"dpo": [["a/1", "a/2"], ["b/1", "b/2"]]}
    curve = curves(scores, items, "m", 100.0, SETTINGS)["dpo"]
    assert list(curve) == ["0"]
    assert curve["0"].sample.values == pytest.approx([45.0, 20.0])
    assert curve["0"].n == 2
    assert not curve["0"].sample.crossed
    first = curves({"dpo": scores["dpo"][:1]}, {"dpo": items["dpo"][:1]}, "m", 1.0, SETTINGS)
    assert first["dpo"]["1"].mean == pytest.approx(0.5)
    assert first["dpo"]["1"].n == 1


def test_rows_on_other_posts_are_not_compared() -> None:
    one = [{"m": {"0": [[0.1]]}}]
    with pytest.raises(ValueError, match="different rows"):
        curves({"a": one, "b": one}, {"a": [["x"]], "b": [["y"]]}, "m", 1.0, SETTINGS)


def test_difference_at_equal_values_of_another_metric() -> None:
    across = {
        "dpo": {"0": statistic(100.0), "1": statistic(50.0)},
        "other": {"0": statistic(100.0), "1": statistic(40.0)},
        "elsewhere": {"0": statistic(10.0), "1": statistic(5.0)},
    }
    up = {
        "dpo": {"0": statistic(30.0), "1": statistic(20.0)},
        "other": {"0": statistic(31.0), "1": statistic(25.0)},
        "elsewhere": {"0": statistic(31.0), "1": statistic(25.0)},
    }
    found = matched(across, up, "dpo")
    assert set(found) == {"dpo", "other"}
    assert found["dpo"].mean == 0.0
    # At 100: 31 − 30; at 50, a sixth of the way from 40 to 100: 26 − 20.
    assert found["other"].mean == pytest.approx((1 + 6) / 2)
    assert matched(across, up, "missing") == {}


def test_holm_is_over_all_blocks() -> None:
    p = {"a": 0.001, "b": 0.02, "c": 0.03, "d": None}
    entries = {name: {"p": value, "significant": True, "p_holm": 0.0} for name, value in p.items()}
    blocks = [
        {"significance": [entries["a"], entries["d"]]},
        {"significance": [entries["b"], entries["c"]]},
    ]
    adjust_over(blocks, SETTINGS)
    expected = holm({name: value for name, value in p.items() if value is not None})
    assert {n: e["p_holm"] for n, e in entries.items()} == {**expected, "d": None}
    assert {n: e["significant"] for n, e in entries.items()} == {
        "a": True,
        "b": True,
        "c": True,
        "d": False,
    } or expected["b"] >= 0.05
    assert entries["d"]["significant"] is False


def test_spearman_with_ties_missing_values_and_drawn_posts() -> None:
    first = np.array([[1.0, 2.0, 3.0, math.nan], [2.0, 4.0, 6.0, 1.0]])
    second = np.array([[10.0, 20.0, 30.0, 5.0], [15.0, 40.0, 60.0, 1.0]])
    there = np.isfinite(first)
    expected = spearmanr(first[there], second[there]).statistic
    assert _spearman(first, second, np.ones(4, dtype=int)) == pytest.approx(expected)
    drawn = np.array([0, 2, 1, 1])
    chosen = [1, 1, 2, 3]
    one, other = first[:, chosen].ravel(), second[:, chosen].ravel()
    whole = np.isfinite(one)
    assert _spearman(first, second, drawn) == pytest.approx(
        spearmanr(one[whole], other[whole]).statistic
    )
    assert _spearman(first, -first, np.ones(4, dtype=int)) == pytest.approx(-1.0)
    assert _spearman(first, np.ones_like(first), np.ones(4, dtype=int)) is None
    assert _spearman(first, second, np.array([0, 0, 0, 4])) is None
