from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.domains.dialogue.experiments import TABLE1
from harness.domains.dialogue.notes import notes as table1_notes
from harness.domains.dialogue.render.trade_off import trade_off_png
from harness.render.table import MISSING, blocks, print_table, to_csv, to_latex, to_markdown


def value(mean: float, n: int = 100) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - 1, mean + 1], "n": n, "seeds": 3}


def table(**changes: Any) -> dict[str, Any]:
    """A small table's JSON, with a missing column and one significant difference."""
    ids = [column.id for column in TABLE1.columns]
    scores = {"sft": 30.0, "dpo": 20.0, "tdpo1": 25.0}
    labels = {"sft": "SFT", "dpo": "DPO", "tdpo1": "TDPO v1"}

    def row(method: str) -> dict[str, Any]:
        values: dict[str, Any] = {c: value(scores[method]) for c in ids}
        values["gpqa"] = None
        values["musr"] = value(5.0)
        paper = dict.fromkeys(ids, scores[method] / 10) if method != "tdpo1" else None
        return {"method": method, "label": labels[method], "values": values, "paper": paper}

    def gained(method: str) -> dict[str, Any]:
        values = {"preference_accuracy": value(90 - scores[method]), "win_rate": value(50.0)}
        return {"method": method, "label": labels[method], "values": values}

    entry = {"column": "bbh", "baseline": "dpo", "p": 0.001, "ci95": [1.0, 2.0]}
    made: dict[str, Any] = {
        "id": "table1",
        "title": TABLE1.title,
        "profile": "tiny",
        "columns": ids,
        "column_labels": {c.id: c.label for c in (*TABLE1.columns, *TABLE1.supplement)},
        "rows": [row(method) for method in scores],
        "average_of": [c for c in ids if c not in {"avg", "gpqa"}],
        "missing": {"gpqa": "no rows given (data.gpqa)"},
        "at_chance": {"math_hard": ["sft", "dpo", "tdpo1"], "musr": ["dpo"]},
        "baseline": "dpo",
        "significance": [
            {**entry, "method": "sft", "difference": 10.0, "p_holm": 0.002, "significant": True},
            {**entry, "method": "tdpo1", "difference": 5.0, "p_holm": 0.4, "significant": False},
        ],
        "paper_setting": "Pythia 1.4B, HH-RLHF",
        "supplement": {
            "title": "What was gained, on held-out prompts",
            "columns": ["preference_accuracy", "win_rate"],
            "rows": [gained(method) for method in scores],
            "significance": [],
        },
        "provenance": {
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "versions": {"torch": "2.13.0", "lm_eval": "0.4.13"},
            "hardware": "2 × CPU_with_underscore & ampersand",
            "model": "tiny-neox",
            "chat_template": "sha256 0123",
            "statistics": {"alpha": 0.05},
            "data": {"train": {"used": 10}, "test": {"used": 5}},
            "sampled": {"prompts": {"responses": 1200, "unfinished": 7, "truncated_prompts": 2}},
            "evaluation": {
                "one_answer": {},
                "truncated_prompts_per_model": [7],
                "max_length": 128,
                "sentence_splitter": "punkt",
            },
        },
    }
    made |= changes
    return {**made, "notes": table1_notes(made)}


def test_best_values_marks_and_missing_cells() -> None:
    main = blocks(table())[0]
    sft, dpo, tdpo = (cells for _, _, cells in main.rows)
    assert sft[0] is not None
    assert (sft[0].value, sft[0].mark, sft[0].best) == ("30.00", "▲", True)
    assert dpo[0] is not None
    assert (dpo[0].mark, dpo[0].best) == ("", False)
    assert tdpo[0] is not None
    assert tdpo[0].mark == ""
    gpqa, musr = main.columns.index("GPQA"), main.columns.index("MuSR")
    assert sft[gpqa] is None
    assert not any(cells[musr].best for cells in (sft, dpo, tdpo) if cells[musr])


def test_the_papers_numbers_are_a_block_of_their_own_and_labelled() -> None:
    paper = blocks(table())[-1]
    assert "The paper's published Table 1" in paper.title
    assert "tiny profile is a model organism" in paper.title
    assert [label for label, _, _ in paper.rows] == ["SFT", "DPO"]
    rows = [{**row, "paper": None} for row in table()["rows"]]
    assert len(blocks(table(rows=rows))) == 2


def test_the_profile_stands_in_every_form() -> None:
    made = table()
    for text in (to_markdown(made), to_latex(made), to_csv(made)):
        assert "tiny" in text


def test_notes_tell_missing_chance_significance_and_provenance() -> None:
    notes = "\n".join(table1_notes(table()))
    assert "Missing, not zero: GPQA: no rows given (data.gpqa)." in notes
    assert "Avg is the mean of the 6 columns" in notes
    assert "MATH (all methods); MuSR (DPO)" in notes
    assert "SFT: ▲ BBH" in notes
    assert "Commit 0123456789ab;" in notes
    assert "7 leaderboard prompts cut to 128 tokens" in notes
    none = table(significance=[{**table()["significance"][1]}], at_chance={}, missing={})
    notes = "\n".join(table1_notes(none))
    assert "No difference from DPO is significant" in notes
    assert "Every method is above chance" in notes
    assert "Missing" not in notes


def test_csv_holds_every_number() -> None:
    made = table()
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert len(rows) == 3 * 8 + 3 * 2
    found = {(row["method"], row["column"]): row for row in rows}
    cell = found["sft", "bbh"]
    assert (cell["mean"], cell["ci95_low"], cell["ci95_high"]) == ("30.0", "29.0", "31.0")
    assert (cell["n"], cell["seeds"], cell["paper"]) == ("100", "3", "3.0")
    assert (cell["difference"], cell["significant"]) == ("10.0", "True")
    assert found["sft", "gpqa"]["mean"] == ""
    assert found["dpo", "win_rate"]["mean"] == "50.0"


def test_markdown_tables_are_rectangular() -> None:
    text = to_markdown(table())
    assert "**30.00**▲ [29.0, 31.0]" in text
    for part in text.split("\n\n"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_latex_is_plain_ascii_balanced_and_rectangular() -> None:
    text = to_latex(table())
    assert text.isascii()
    assert "?" not in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 3
    columns = [len(spec) for spec in re.findall(r"\\begin\{tabular\}\{(l+r+)\}", text)]
    for size, body in zip(
        columns, re.findall(r"\\toprule(.*?)\\bottomrule", text, re.S), strict=True
    ):
        for line in re.findall(r"^.*\\\\$", body, re.M):
            assert len(re.findall(r"(?<!\\)&", line)) == size - 1
    assert re.findall(r"(?<!\\)[_#]", text.split("\n", 1)[1]) == []


def test_latex_names_what_characters_outside_ascii_need() -> None:
    assert "fontspec" not in to_latex(table())
    text = to_latex(table(title="偏好 β"))
    assert "偏好 $\\beta$" in text
    assert "LuaLaTeX" in text.splitlines()[1]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    document = (
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        + to_latex(table())
        + "\\end{document}\n"
    )
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_terminal_shows_every_row_and_note() -> None:
    console = Console(width=170, record=True, file=io.StringIO())
    print_table(table(), console)
    text = console.export_text()
    for expected in (
        "TDPO v1",
        "30.00▲",
        "[29.0, 31.0]",
        MISSING,
        "100 × 3",
        "Missing, not zero",
    ):
        assert expected in text


@pytest.mark.parametrize("with_win_rate", [True, False])
def test_picture_is_a_png_and_always_the_same(with_win_rate: bool) -> None:
    made = table()
    if not with_win_rate:
        for row in made["supplement"]["rows"]:
            row["values"]["win_rate"] = None
    picture = trade_off_png(made)
    assert picture.startswith(b"\x89PNG")
    assert picture == trade_off_png(made)
