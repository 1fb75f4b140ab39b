"""A method's section: its numbers are those of the table's JSON, with the marks of its own rows."""

from __future__ import annotations

import re
from typing import Any

from harness.render.columns import parts_of
from harness.render.method_result import method_result
from tests.small_results import small_result

SOURCE = "../../results/published/some/table1.json"
TRIALS = [{"number": 0, "settings": {"beta": 0.1}}, {"number": 1, "settings": {"beta": 0.25}}]


def with_tuned_rows(chains: int = 3) -> dict[str, Any]:
    """A table whose tuned rows are a second, independent result."""
    result = small_result(chains=chains)
    again = small_result(seed=1, chains=chains)
    for row in again["rows"]:
        row |= {"id": f"{row['id']}-tuned", "label": f"{row['label']}, tuned", "tuned": True}
        row["baseline"] = "dpo-tuned"
    for entry in again["significance"]:
        entry |= {name: f"{entry[name]}-tuned" for name in ("row", "baseline")}
    for name in ("rows", "significance"):
        result[name] += again[name]
    result["tuning"] = {
        "rows": {
            "mapo-tuned": {"seed 42": {"chosen": 1, "trials": TRIALS},
                           "seed 43": {"chosen": 0, "trials": TRIALS}},
        }
    }  # fmt: skip
    return result


def lines_of(text: str) -> dict[str, list[str]]:
    """Return the cells of a section's table by the first one of their line."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in rows}


def test_the_numbers_are_those_of_the_result() -> None:
    table = with_tuned_rows()
    text = method_result(table, "mapo", SOURCE)
    assert text is not None
    lines = lines_of(text)
    assert lines[""] == ["MAPO", "MAPO, tuned", "DPO", "DPO, tuned"]
    shown = ("mapo", "mapo-tuned", "dpo", "dpo-tuned")
    for part in parts_of(table):
        rows = {row["id"]: row["values"] for row in part["rows"]}
        for column in part["columns"]:
            for id, cell in zip(shown, lines[table["column_labels"][column]], strict=True):
                numbers = [float(found) for found in re.findall(r"-?\d+\.\d+", cell)]
                value = rows[id][column]
                assert numbers == [
                    round(value["mean"], 2), *(round(end, 1) for end in value["ci95"])
                ]  # fmt: skip


def test_marks_are_those_of_the_rows_own_comparisons() -> None:
    table = with_tuned_rows()
    for entry in table["significance"]:
        own = entry["row"], entry["column"]
        entry["significant"] = own in (("mapo", "bbh"), ("mapo-tuned", "musr"))
    text = method_result(table, "mapo", SOURCE)
    assert text is not None
    lines = lines_of(text)
    marks = {name: ["▲" in cell for cell in cells] for name, cells in lines.items()}
    assert marks["BBH"] == [True, False, False, False]
    assert marks["MuSR"] == [False, True, False, False]
    assert not any(marks["Avg"])


def test_how_it_was_made_is_said() -> None:
    text = method_result(with_tuned_rows(), "mapo", SOURCE)
    assert text is not None
    assert text.startswith(
        f"`python -m harness run --table 1 --profile tiny` at commit 0123456 ([numbers]({SOURCE})):"
        " means over 3 chains with 95 % intervals; significantly better ▲, worse ▼ or different ≠ "
        "from DPO or DPO, tuned, "
    )
    assert text.endswith(
        "Chosen by tuning: seed 42: trial 1 (beta 0.25); seed 43: trial 0 (beta 0.1)."
    )
    one = method_result(small_result(chains=1), "mapo", SOURCE)
    assert one is not None and "one chain, which has no test." in one


def test_the_baseline_stands_alone() -> None:
    text = method_result(small_result(), "dpo", SOURCE)
    assert text is not None and lines_of(text)[""] == ["DPO"]


def test_a_number_that_is_missing_and_a_method_without_a_row() -> None:
    table = small_result()
    for row in table["rows"]:
        row["values"]["bbh"] = None
    text = method_result(table, "mapo", SOURCE)
    assert text is not None and lines_of(text)["BBH"] == ["–", "–"]
    assert method_result(table, "grpo", SOURCE) is None
