"""What intervals and marks promise, simulated; benchmarks/cards has the complete simulation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.components import DEFAULTS, Column, columns_of
from benchmarks.coverage import (
    coverage_of_shared_start,
    draw_scores,
    item_draws,
    main,
    simulate,
    table_of,
)
from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic
from harness.domains.common.spec import RowSpec, percentage
from harness.domains.common.table import block_json
from tasks.metrics.chains import PRIOR_DF

COLUMN = Column("skill", 300, 70.0, 4.0, (0.9, 0.5, 0.8, 1.2, 2.0))


@pytest.mark.parametrize("crossed", [False, True])
def test_intervals_cover_and_false_marks_are_rare(crossed: bool) -> None:
    (found,) = simulate(COLUMN, 3, 300, crossed=crossed, replicates=50)
    # Rows of a table share their chains: the standard error of 300 tables is about 1.2 points.
    assert 91.5 <= found.means <= 98.5
    assert 93.0 <= found.differences <= 98.0
    assert found.worst >= 90.0
    assert found.false_marks <= 6.0


def test_rows_that_lend_each_other_degrees_of_freedom_find_smaller_differences() -> None:
    alone, moderated, one_variance = simulate(
        COLUMN, 3, 200, replicates=20, prior_dfs=(0.0, PRIOR_DF, math.inf)
    )
    assert moderated.detectable < 0.6 * alone.detectable
    # One variance for all rows would find more, and be wrong about the row that varies most.
    assert one_variance.detectable < moderated.detectable
    assert one_variance.worst < moderated.worst - 2.0


def test_intervals_of_seeds_that_share_a_base_model_do_not_cover() -> None:
    """The design of earlier versions, with today's variance components and as many seeds."""
    column = Column("skill", 900, 70.0, 4.0, (0.9, 0.9, 1.2, 1.6, 2.0))
    means, differences = coverage_of_shared_start(column, 3, 120, replicates=200)
    assert means < 75.0
    assert differences < 90.0
    (today,) = simulate(column, 3, 120, replicates=20)
    assert today.means >= 91.0
    assert today.differences >= 92.0


def test_components_are_found_again_in_a_result(tmp_path: Path) -> None:
    """Twelve chains tell the components roughly; the simulation reads what a run has written."""
    column = Column("skill", 900, 70.0, 4.0, (0.5, 0.5, 3.0), correlation=0.8)
    generator = np.random.default_rng(4)
    draws = item_draws(column, 12, 200, 0, crossed=False)
    samples = table_of(draw_scores(column, 12, generator), column, draws)
    rows = [RowSpec(name, name, name) for name in ("dpo", "steady", "unsteady")]
    cells = {row.id: {"skill": Statistic(one)} for row, one in zip(rows, samples, strict=True)}
    columns = (percentage("skill", "Skill"),)
    block = block_json(rows, columns, cells, StatisticsSettings(), baselines=("dpo",))
    result = {"id": "table1", "profile": "tiny", "baseline": "dpo", **block}
    (found,) = columns_of(result)
    assert found.score == pytest.approx(70.0, abs=3.0)
    assert found.items == pytest.approx(900, rel=0.2)
    assert found.common_sd == pytest.approx(4.0, rel=0.5)
    assert found.method_sds[2] == pytest.approx(3.0, rel=0.5)
    assert found.method_sds[1] < 1.5
    assert found.correlation == pytest.approx(0.8, abs=0.15)
    file = tmp_path / "table1.json"
    file.write_text(json.dumps(result))
    assert main(["--result", str(file), "--chains", "3", "--tables", "5"]) == 0
    for row in block["rows"]:
        row["values"]["skill"] = None
    with pytest.raises(ValueError, match="several chains"):
        columns_of(result)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory."),
        ("[]", "is not the result of an experiment"),
        ('{"id": "table1", "profile": "tiny"}', "has no table of values to compare."),
    ],
)
def test_a_result_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    file = tmp_path / "table1.json"
    if content is not None:
        file.write_text(content)
    assert main(["--result", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and message in error and error.count("\n") == 1


def test_a_card_has_components_and_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.coverage.CARDS", tmp_path)
    monkeypatch.setattr("benchmarks.coverage.DEFAULTS", (COLUMN, DEFAULTS[-1]))
    main(["--chains", "3", "--tables", "4", "--prior", "4", "inf", "--name", "card"])
    printed = capsys.readouterr().out
    assert "| skill | own | 3 | ∞ |" in printed
    facts = json.loads((tmp_path / "card.json").read_text())
    assert len(facts["columns"]) == 2
    assert [o["prior_df"] for o in facts["outcomes"]] == [4.0, "inf", 4.0, "inf"]
    assert printed.strip() in (tmp_path / "card.md").read_text()
