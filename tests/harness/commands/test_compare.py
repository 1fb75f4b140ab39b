"""Two results of one experiment: what agrees, what differs, and what cannot be compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.commands.compare import compare_results, report_lines
from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic
from harness.domains.common.spec import RowSpec, percentage
from harness.domains.common.table import block_json, column_facts
from tasks.metrics.chains import ChainValues

COLUMNS = (percentage("skill", "Skill"), percentage("wins", "Wins"))
MEANS = {"dpo": 50.0, "better": 60.0, "worse": 40.0, "same": 50.0}


def result(seed: int, chains: int = 5, flip: bool = False) -> dict[str, Any]:
    """A table whose chains differ by 3 points, its methods within them by 0.5."""
    generator = np.random.default_rng(seed)
    cells: dict[str, dict[str, Statistic]] = {}
    common = {column.id: generator.normal(0, 3, chains) for column in COLUMNS}
    for row, mean in MEANS.items():
        for column in COLUMNS:
            level = 100.0 - mean if flip else mean
            values = level + common[column.id] + generator.normal(0, 0.5, chains)
            drawn = values[:, None] + generator.normal(0, 0.5, (chains, 50))
            cells.setdefault(row, {})[column.id] = Statistic(ChainValues(values, drawn, 100))
    rows = [RowSpec(row, row, row.upper()) for row in MEANS]
    block = block_json(rows, COLUMNS, cells, StatisticsSettings(), baselines=("dpo",))
    return {
        "id": "table1",
        "profile": "tiny",
        **column_facts(COLUMNS),
        **block,
        "provenance": {"settings": {"seed": seed, "po": {"epochs": 1}}},
    }


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_runs_with_other_chains_are_consistent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path, "a.json", result(1)), write(tmp_path, "b.json", result(3))
    out = tmp_path / "compared.json"
    assert main(["compare", str(first), str(second), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "settings that differ: seed 1 and 3" in text
    assert "BETTER" in text and "Skill" in text and f"written: {out}" in text
    written = json.loads(out.read_text())
    assert written["summary"]["means_inside"] >= 90.0
    assert written["summary"]["marks_opposite"] == 0
    assert (written["summary"]["cells"], written["summary"]["marks"]) == (8, 6)
    assert written["chains"] == [5, 5]
    for cell in written["cells"]:
        low, high = cell["ci95"]
        assert low <= cell["difference"] <= high


def test_a_result_is_consistent_with_itself(tmp_path: Path) -> None:
    file = write(tmp_path, "a.json", result(1))
    found = compare_results(file, file)
    assert found.summary()["means_inside"] == 100.0
    assert found.summary()["marks_agree"] == 100.0
    assert all(cell.p == 1.0 for cell in found.cells)


def test_about_five_in_a_hundred_means_are_outside(tmp_path: Path) -> None:
    inside = []
    for trial in range(60):
        first = write(tmp_path, "a.json", result(2 * trial))
        second = write(tmp_path, "b.json", result(2 * trial + 1, chains=3))
        inside.append(compare_results(first, second).summary()["means_inside"])
    assert 91.0 <= np.mean(inside) <= 98.5


def test_marks_that_turn_into_their_opposite_are_named(tmp_path: Path) -> None:
    first = write(tmp_path, "a.json", result(1))
    second = write(tmp_path, "b.json", result(2, flip=True))
    found = compare_results(first, second)
    assert found.summary()["marks_opposite"] == 4
    assert found.summary()["means_inside"] < 100.0
    lines = "\n".join(report_lines(found))
    assert "opposite marks against DPO: BETTER, Skill: ▲ and ▼" in lines
    assert "outside the prediction interval" in lines
    assert "4 turn into their opposite" in lines


def test_equal_values_in_all_chains_are_compared_without_a_test(tmp_path: Path) -> None:
    constant = result(1)
    for row in constant["rows"]:
        for cell in row["values"].values():
            cell["per_chain"] = [100.0] * 5
    other = copy.deepcopy(constant)
    other["rows"][0]["values"]["skill"]["per_chain"] = [90.0] * 5
    found = compare_results(write(tmp_path, "a.json", constant), write(tmp_path, "b.json", other))
    assert [cell.p for cell in found.cells] == [0.0, *[1.0] * 7]
    assert not found.cells[0].consistent
    assert all(cell.consistent for cell in found.cells[1:])


@pytest.mark.filterwarnings("error")
def test_chains_that_are_equal_but_for_rounding_cause_no_warning(tmp_path: Path) -> None:
    one, other = result(1), result(2)
    equal = 214.0 / 3.0
    one["rows"][0]["values"]["skill"]["per_chain"] = [equal, equal + 2e-14, equal, equal, equal]
    found = compare_results(write(tmp_path, "a.json", one), write(tmp_path, "b.json", other))
    assert 0.0 < found.cells[0].p <= 1.0


def test_rows_of_one_result_alone_are_counted(tmp_path: Path) -> None:
    fewer = result(2)
    fewer["rows"] = fewer["rows"][:-1]
    fewer["rows"][0]["values"]["wins"]["per_chain"] = [50.0]
    found = compare_results(write(tmp_path, "a.json", result(1)), write(tmp_path, "b.json", fewer))
    assert found.skipped == 3
    assert "single chain in one result: 3 cells" in "\n".join(report_lines(found))


def _without_chains() -> dict[str, Any]:
    old = result(1)
    for row in old["rows"]:
        for cell in row["values"].values():
            del cell["per_chain"]
    return old


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (None, "b.json cannot be read: No such file or directory."),
        ("{", "is not valid JSON"),
        (json.dumps([1]), "is not the result of an experiment"),
        (json.dumps({"id": "figure6", "profile": "tiny", "panels": []}), "has no table of values"),
        (json.dumps({**result(1), "id": "table2"}), "different experiments cannot be compared"),
        (json.dumps({**result(1), "profile": "small"}), "different profiles cannot be compared"),
        (json.dumps(_without_chains()), "without the values of each chain; run table1 again"),
        (json.dumps(result(1, chains=1)), "has a single chain"),
        (json.dumps({**result(1), "rows": []}), "has no table of values"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    other: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path, "a.json", result(1)), tmp_path / "b.json"
    if other is not None:
        second.write_text(other)
    out = tmp_path / "out.json"
    assert main(["compare", str(first), str(second), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ") and sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()
