"""What is best in a column follows its direction, in every form that a table has."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rich.console import Console

from harness.domains.dialogue.render import trade_off
from harness.render.columns import best, mark, saturated
from harness.render.notes import ceiling_note, direction_note, significance_note
from harness.render.table import blocks, print_table, to_latex, to_markdown

ROWS = ("dpo", "low", "high")
MEANS = {"dpo": 2.0, "low": 1.25, "high": 3.5}
DIRECTIONS = {"accuracy": True, "kl": False, "length": None}


def value(mean: float) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - 1, mean + 1], "n": 10, "seeds": 1}


def table(**changes: Any) -> dict[str, Any]:
    """Three columns of equal values, of which more, less and neither is better."""

    def row(id: str) -> dict[str, Any]:
        values = {column: value(MEANS[id]) for column in DIRECTIONS}
        paper = dict.fromkeys(DIRECTIONS, MEANS[id])
        return {"id": id, "method": "dpo", "label": id, "values": values, "paper": paper}

    entries = [
        {
            "column": column,
            "row": id,
            "method": "dpo",
            "baseline": "dpo",
            "difference": MEANS[id] - MEANS["dpo"],
            "p_holm": 0.01,
            "significant": True,
        }
        for column in DIRECTIONS
        for id in ("low", "high")
    ]
    return {
        "id": "table3",
        "title": "Directions",
        "profile": "tiny",
        "columns": list(DIRECTIONS),
        "column_labels": {"accuracy": "Accuracy", "kl": "KL", "length": "Length"},
        "higher_is_better": DIRECTIONS,
        "bounds": {"accuracy": [0.0, 100.0], "kl": [0.0, None], "length": [None, None]},
        "rows": [row(id) for id in ROWS],
        "baseline": "dpo",
        "significance": entries,
        "paper_setting": "a model",
        "notes": ["A note."],
        "provenance": {"statistics": {"alpha": 0.05}},
        **changes,
    }


def column_of(block: Any, index: int) -> dict[str, Any]:
    return {label: cells[index] for label, _, cells in block.rows}


@pytest.mark.parametrize("block", [0, 1], ids=["own numbers", "the paper's"])
def test_the_best_value_follows_the_columns_direction(block: int) -> None:
    shown = blocks(table())[block]
    found = [
        [label for label, cell in column_of(shown, index).items() if cell.best]
        for index in range(3)
    ]
    assert found == [["high"], ["low"], []]


def test_marks_say_better_or_worse_and_not_above_or_below() -> None:
    shown = blocks(table())[0]
    marks = [[cell.mark for cell in column_of(shown, index).values()] for index in range(3)]
    assert marks == [["", "▼", "▲"], ["", "▲", "▼"], ["", "≠", "≠"]]


def test_markdown_marks_the_best_value_and_the_direction() -> None:
    text = to_markdown(table())
    own, paper = [part for part in text.split("\n\n") if part.startswith("| method")]
    for part in (own, paper):
        header, _, *lines = part.splitlines()
        assert "| Accuracy | KL ↓ | Length |" in header
        bold = {line.split(" | ")[0]: re.findall(r"\*\*([\d.]+)\*\*", line) for line in lines}
        assert bold == {"| dpo": [], "| low": ["1.25"], "| high": ["3.50"]}
        low = next(line for line in lines if line.startswith("| low"))
        assert "**" in low.split(" | ")[2]


def test_latex_marks_the_best_value_and_the_direction() -> None:
    text = to_latex(table())
    assert r"Method & Accuracy & KL $\downarrow$ & Length" in text
    rows = [line.split(" & ") for line in text.splitlines() if line.startswith(("low &", "high &"))]
    for label, accuracy, kl, length, *_ in rows:
        assert accuracy.startswith(r"\textbf") is (label == "high")
        assert kl.startswith(r"\textbf") is (label == "low")
        assert not length.startswith(r"\textbf")
    assert r"1.25}$^{\triangle}$" in text
    assert r"1.25$^{\neq}$" in text


def test_the_terminal_prints_the_best_value_in_bold() -> None:
    console = Console(width=170, file=io.StringIO(), force_terminal=True, color_system="standard")
    print_table(table(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    bold = re.findall(r"\x1b\[1m *([\d.]+[▲▼≠]?)", text)
    assert bold.count("1.25▲") == 1
    assert bold.count("3.50▲") == 1
    assert not any(word.endswith(("▼", "≠")) for word in bold)


def test_notes_name_directions_and_significance() -> None:
    made = table()
    note = significance_note(made, made["significance"])
    assert note.startswith("Significantly better ▲ or worse ▼ than or different ≠ from dpo")
    assert "low: ▼ Accuracy, ▲ KL, ≠ Length; high: ▲ Accuracy, ▼ KL, ≠ Length." in note
    undirected = [entry for entry in made["significance"] if entry["column"] == "length"]
    assert significance_note(made, undirected).startswith("Significantly different ≠ from dpo")
    assert direction_note(made) == ("Lower is better (↓): KL. Neither direction is better: Length.")
    assert direction_note({**made, "higher_is_better": dict.fromkeys(DIRECTIONS, True)}) == ""


def test_a_column_is_saturated_at_its_best_bound_only() -> None:
    def means(**values: float) -> dict[str, Any]:
        cells = {column: value(mean) for column, mean in values.items()}
        return table(rows=[{"id": "dpo", "method": "dpo", "label": "", "values": cells}])

    assert "Accuracy" in ceiling_note(means(accuracy=100.0, kl=1.0, length=1.0))
    assert "KL" in ceiling_note(means(accuracy=99.0, kl=0.0, length=1.0))
    # A cost of more than 100 is no ceiling, and 0 % is none either.
    assert ceiling_note(means(accuracy=0.0, kl=140.0, length=140.0)) == ""


def test_the_trade_off_turns_axes_on_which_lower_is_better() -> None:
    def drawn(**directions: bool) -> Any:
        made = table()
        gained = {"title": "Gained", "columns": ["kl"], "significance": []}
        made |= {
            "average": "accuracy",
            "higher_is_better": {**DIRECTIONS, **directions},
            "supplement": {**gained, "rows": made["rows"]},
        }
        kept: list[Figure] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trade_off, "save", lambda figure, form: kept.append(figure) or b"")
            trade_off.trade_off_png(made)
        return kept[0].axes[0]

    axis = drawn()
    assert axis.xaxis_inverted() and "lower is better" in axis.get_xlabel()
    assert not axis.yaxis_inverted() and "lower" not in axis.get_ylabel()
    axis = drawn(kl=True, accuracy=False)
    assert not axis.xaxis_inverted()
    assert axis.yaxis_inverted() and "lower is better" in axis.get_ylabel()


numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6)


@given(numbers, st.sampled_from([True, False, None]))
def test_no_value_is_better_than_the_best_and_equal_values_have_none(
    values: list[float], direction: bool | None
) -> None:
    found = best({"higher_is_better": {"c": direction}}, "c", values)
    if direction is None or len(set(values)) == 1:
        assert found is None
    else:
        assert found in values
        assert all(one <= found if direction else one >= found for one in values)


@given(st.floats(-1e6, 1e6).filter(bool))
def test_turning_a_column_round_turns_its_marks_round(difference: float) -> None:
    entry = {"column": "c", "difference": difference, "significant": True}
    shown = {mark({"higher_is_better": {"c": higher}}, entry) for higher in (True, False)}
    assert shown == {"▲", "▼"}
    assert mark({}, {**entry, "significant": False}) == ""


def test_results_without_directions_are_read_as_before() -> None:
    assert best({}, "c", [1.0, 2.0]) == 2.0
    assert saturated({}, "c", [100.0, 100.0])
