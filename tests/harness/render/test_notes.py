"""What the sentences under a table say about its intervals and marks."""

from __future__ import annotations

from typing import Any

from harness.render.notes import chains_note, detectable_note, significance_note


def table(*seeds: int) -> dict[str, Any]:
    """Rows a, b, … with as many chains as given."""
    names = "abc"[: len(seeds)]
    return {
        "column_labels": {"x": "X", "y": "Y"},
        "rows": [
            {"id": name, "method": name, "label": name.upper(), "values": {"x": {"seeds": count}}}
            for name, count in zip(names, seeds, strict=True)
        ],
        "provenance": {"statistics": {"alpha": 0.05}},
    }


def test_intervals_are_for_the_mean_of_all_chains() -> None:
    note = chains_note(table(5, 5), "prompts")
    assert note.startswith(
        "Means over 5 chains with 95 % intervals for the mean of all such chains. The bytes repeat"
    )


def test_a_single_model_beside_chains_is_named() -> None:
    assert "A: a single model, whose own variation is in no interval." in chains_note(
        table(1, 5), "prompts"
    )


def test_one_chain_has_an_interval_over_items_and_no_marks() -> None:
    made = table(1, 1)
    assert chains_note(made, "prompts").startswith("95 % intervals of a bootstrap over prompts")
    entry = {"column": "x", "row": "b", "baseline": "a", "p_holm": None, "significant": False}
    assert significance_note(made, [entry]) == (
        "One chain has no test: no difference from A is marked."
    )


def test_the_smallest_detectable_differences_are_listed() -> None:
    labels = {"x": "X", "y": "Y"}
    note = detectable_note({"detectable": {"x": 1.26}}, {"detectable": {"y": 3.0}}, labels=labels)
    assert note.endswith("(median row): X 1.3, Y 3.0.")
    assert detectable_note({"detectable": {}}, labels=labels) == ""
