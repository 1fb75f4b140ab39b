"""Significant differences are said once for each row, and a setting's values only where needed."""

from __future__ import annotations

from typing import Any

from harness.render.fit import LongNote
from harness.render.marks import Series, counted_marks, listed_marks
from harness.render.notes import significance_note

BETAS = ("0.05", "0.2", "0.8")
BY_BETA = Series("β", {f"{row}/{b}": (row.upper(), b) for row in ("a", "b") for b in BETAS})


def table(*rows: str, **columns: bool | None) -> dict[str, Any]:
    return {
        "rows": [{"id": row, "method": row, "label": f"Row {row}"} for row in (*rows, "base")],
        "column_labels": {column: column.upper() for column in columns},
        "higher_is_better": columns,
        "provenance": {"statistics": {"alpha": 0.05}},
    }


def entry(row: str, column: str, sign: int) -> dict[str, Any]:
    """A comparison with the baseline; `sign` is that of the difference, 0 without significance."""
    return {
        "row": row,
        "column": column,
        "baseline": "base",
        "difference": sign or 1,
        "p_holm": 0.01,
        "significant": sign != 0,
    }


def test_a_mark_at_every_value_of_a_setting_is_said_once() -> None:
    rows = list(BY_BETA.members)
    made = table(*rows, x=True, y=True)
    entries = [entry(row, column, 1) for row in rows[:3] for column in ("x", "y")]
    assert listed_marks(made, entries, BY_BETA) == "A: ▲ X, Y at every β"


def test_only_some_values_are_listed() -> None:
    rows = list(BY_BETA.members)
    made = table(*rows, x=True)
    signs = dict(zip(rows, (1, 1, -1, 0, 0, 1), strict=True))
    entries = [entry(row, "x", sign) for row, sign in signs.items()]
    assert (
        listed_marks(made, entries, BY_BETA)
        == "A: ▲ X at β 0.05, 0.2, ▼ X at β 0.8; B: ▲ X at β 0.8"
    )


def test_a_row_without_the_setting_stands_beside_the_series() -> None:
    made = table("c", *BY_BETA.members, x=True)
    entries = [entry("c", "x", 1), *(entry(f"a/{beta}", "x", 1) for beta in BETAS)]
    assert listed_marks(made, entries, BY_BETA) == "Row c: ▲ X; A: ▲ X at every β"


def test_columns_are_a_series_too_and_every_means_every_value_of_it() -> None:
    members = {f"{m}_{t}": (m, t) for m in ("rouge", "bleu") for t in ("0", "1")}
    made = table("a", rouge_0=True, rouge_1=True, bleu_1=None)
    entries = [entry("a", column, -1) for column in ("rouge_0", "rouge_1", "bleu_1")]
    # Self-BLEU is not compared at temperature 0.
    assert listed_marks(made, entries, Series("temperature", members)) == (
        "Row a: ▼ rouge at every temperature, ≠ bleu at temperature 1"
    )


def test_rows_with_the_same_marks_are_named_together() -> None:
    made = table("a", "b", "c", x=True, y=False)
    both = [entry(row, column, 1) for row in ("a", "b", "c") for column in ("x", "y")]
    assert listed_marks(made, both) == "every other row: ▲ X, ▼ Y"
    assert listed_marks(made, [*both[:4], entry("c", "x", 0)]) == "Row a, Row b: ▲ X, ▼ Y"
    # Two rows of two are named: "every" would say less.
    assert listed_marks(made, both[:4]) == "Row a, Row b: ▲ X, ▼ Y"


def test_the_note_has_a_short_form_with_the_counts() -> None:
    made = table("a", "b", x=True, y=None)
    entries = [entry("a", "x", 1), entry("a", "y", 1), entry("b", "x", -1), entry("b", "y", 0)]
    assert counted_marks(made, entries) == "1 ▲, 1 ▼, 1 ≠ of 4 comparisons"
    note = significance_note(made, entries, family="over both columns")
    assert isinstance(note, LongNote)
    assert note.endswith("Holm over both columns, α = 0.05): Row a: ▲ X, ≠ Y; Row b: ▼ X.")
    assert note.short.endswith("α = 0.05): 1 ▲, 1 ▼, 1 ≠ of 4 comparisons.")
    assert significance_note(made, [entry("a", "x", 0)]) == (
        "No difference from Row base is significant (Holm, α = 0.05): X."
    )
