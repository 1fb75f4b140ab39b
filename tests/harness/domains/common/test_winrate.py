"""From verdicts to the cells of a table of win rates, and a judge's agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.config.profiles import StatisticsSettings
from harness.domains.common.winrate.cells import agreement, counts, verdict_cells
from tasks.metrics.chains import estimate
from tasks.metrics.preference import mirrored

SETTINGS = StatisticsSettings(replicates=300)


def line(id: str, forward: str, backward: str, first: int = 10, second: int = 10) -> dict[str, Any]:
    return {
        "pair_id": id,
        "forward": forward,
        "backward": backward,
        "first_characters": first,
        "second_characters": second,
        "prompt_tokens": 5,
        "completion_tokens": 1,
    }


def lines(*results: str) -> list[dict[str, Any]]:
    return [
        line(str(index), result, mirrored(result))  # type: ignore[arg-type]
        for index, result in enumerate(results)
    ]


WON = ("first", "first", "tie", "second")


def test_cells_are_percentages_of_each_chain() -> None:
    verdicts = {
        "sft": [lines(*WON), lines("tie", "tie", "tie", "tie")],
        "dpo": [lines(*WON), lines("first", "first", "first", "first")],
    }
    cells = verdict_cells(verdicts, ["a", "b"], "chosen", SETTINGS)
    assert cells["sft"]["win_chosen"].sample.values.tolist() == [62.5, 50.0]
    assert cells["dpo"]["win_chosen"].sample.values.tolist() == [62.5, 100.0]
    assert cells["sft"]["first_shown"].mean == 50.0
    assert cells["sft"]["characters"].mean == 10.0
    assert not cells["sft"]["win_chosen"].sample.crossed
    assert cells["sft"]["controlled_chosen"].sample.values == pytest.approx([62.5, 50.0])
    # Rows of one chain share their draws of prompts.
    one = cells["sft"]["win_chosen"].sample.replicates[0]
    assert np.array_equal(one, cells["dpo"]["win_chosen"].sample.replicates[0])


def test_the_opponent_ties_with_itself() -> None:
    cells = verdict_cells({"sft": [lines(*WON)]}, ["a"], "dpo", SETTINGS, itself="dpo")
    assert cells["dpo"]["win_dpo"].mean == cells["dpo"]["controlled_dpo"].mean == 50.0
    assert set(cells["sft"]) == {"win_dpo", "controlled_dpo"}
    found = cells["sft"]["win_dpo"].sample.minus(cells["dpo"]["win_dpo"].sample)
    assert found.mean == 12.5


def test_failed_verdicts_are_left_out_and_never_zero() -> None:
    some = lines("first", "failed", "failed", "second")
    none = lines("failed", "failed", "failed", "failed")
    cells = verdict_cells({"sft": [some], "dpo": [none]}, ["a"], "chosen", SETTINGS)
    assert cells["sft"]["win_chosen"].mean == 50.0
    assert cells["sft"]["win_chosen"].n == 2
    assert set(cells["dpo"]) == {"characters"}
    assert np.isfinite(cells["sft"]["win_chosen"].sample.replicates).all()
    assert counts([some, none])["failed"] == 6


def test_rows_that_were_judged_on_different_prompts_are_refused() -> None:
    other = [{**one, "pair_id": "x"} for one in lines(*WON)]
    with pytest.raises(ValueError, match="different rows"):
        verdict_cells({"sft": [lines(*WON)], "dpo": [other]}, ["a"], "chosen", SETTINGS)


def test_a_position_bias_is_seen_and_does_not_win() -> None:
    biased = [line(str(n), "first", "first") for n in range(10)]
    cells = verdict_cells({"sft": [biased]}, ["a"], "chosen", SETTINGS)
    assert cells["sft"]["win_chosen"].mean == 50.0
    assert cells["sft"]["first_shown"].mean == 100.0
    assert counts([biased])["order_decided"] == 10


def judged(share: float, rows: int, seed: int) -> list[dict[str, Any]]:
    """A judge that agrees with the labels in a share of the pairs."""
    agrees = np.random.default_rng(seed).random(rows) < share
    return lines(*np.where(agrees, "first", "second"))


def test_kappa_is_that_of_labels_in_both_orders() -> None:
    sample = agreement([judged(0.8, 2000, 0), judged(0.8, 2000, 1)], ["a", "b"], SETTINGS)
    assert sample is not None
    # Without ties, agreement by chance is one half: kappa = 2 p - 1.
    assert sample.mean == pytest.approx(0.6, abs=0.04)
    perfect = agreement([lines("first", "first")], ["a"], SETTINGS)
    random = agreement([lines("first", "second", "first", "second")], ["a"], SETTINGS)
    assert perfect is not None and perfect.mean == 1.0
    assert random is not None and random.mean == 0.0


def test_kappa_with_ties_and_other_raters() -> None:
    own = [{**one, "rules": one["forward"]} for one in lines("first", "tie", "second", "failed")]
    same = agreement([own], ["a"], SETTINGS, truth="rules")
    assert same is not None and same.mean == 1.0
    labels = agreement([own], ["a"], SETTINGS)
    # One of three right, expected (1/2) (2/3).
    assert labels is not None and labels.mean == pytest.approx(0.0)
    assert agreement([lines("failed")], ["a"], SETTINGS) is None
    assert agreement([[{**lines("tie")[0], "rules": "tie"}]], ["a"], SETTINGS, "rules") is None


def test_the_interval_of_kappa_covers_its_truth() -> None:
    covered = 0
    for seed in range(300):
        sample = agreement([judged(0.8, 200, seed)], ["a"], SETTINGS)
        assert sample is not None
        found = estimate(sample)
        covered += found.low <= 0.6 <= found.high
    assert 0.91 <= covered / 300 <= 0.98
