"""The comparison of methods' step times, on a model of a few thousand weights."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.methods import explanation, markdown, measure
from benchmarks.shapes import NARROW
from sparsepo.methods import BUILT_IN

SMALL = replace(NARROW[1], layers=1, width=8, heads=2, vocabulary=64, prompt=4, response=5, pairs=3)


def test_methods_are_measured_in_turn_with_dpo() -> None:
    names = ["simpo", "kto", "tgdpo", "weighted-dpo", "odpo"]
    costs = measure(names, SMALL, runs=2, steps=2)
    assert [cost.method for cost in costs] == names
    assert all(len(cost.ratios) == 2 and min(cost.ratios) > 0 for cost in costs)
    facts = {"date": "d", "command": "c", "machine": "m", "load": "l", "shape": "s", "pairs": 3}
    card = markdown(facts, costs)
    assert all(f"| {name} |" in card for name in names)


def test_what_a_method_computes_beyond_dpo_is_said() -> None:
    assert explanation(BUILT_IN["dpo"]) == ""
    assert "no reference" in explanation(BUILT_IN["orpo"])
    assert "other prompts" in explanation(BUILT_IN["kto"])
