"""Table 2 with tuned rows, from nothing to its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.code.experiments import TABLE2
from tests.small_code_table import SMALL_CODE, solutions


def test_trials_are_compared_on_validation_problems(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    request = RunRequest(
        methods=("base", "dpo"),
        seeds=1,
        tune=2,
        assignments=(
            *SMALL_CODE,
            f"data.answers={solutions(tmp_path / 'answers')}",
            "tuning.validation_samples=10",
        ),
        workers=1,
        out=tmp_path / "out",
        store=tmp_path / "store",
    )
    table = run_experiment(TABLE2, request, recorder)
    assert [row["id"] for row in table["rows"]] == ["base", "dpo", "dpo-tuned"]
    assert list(table["tuned"]) == ["dpo"]
    tuning = table["tuning"]
    assert tuning["criterion"] == "pass@10"
    (search,) = tuning["rows"]["dpo-tuned"].values()
    assert [trial["state"] for trial in search["trials"]] == ["complete"] * 2
    # A model of three steps solves nothing, and the earlier of two equal trials wins.
    assert [(trial["value"], trial["second"]) for trial in search["trials"]] == [(0.0, 0.0)] * 2
    assert search["chosen"] == 0
    # The profile's own β, not the one that HumanEval chooses.
    assert search["trials"][0]["settings"]["beta"] == 0.1
    compared = {(entry["row"], entry["baseline"]) for entry in table["significance"]}
    assert compared == {("dpo", "base"), ("base", "dpo"), ("dpo-tuned", "base")}
    assert (tmp_path / "out" / "tiny" / "table2-tuned" / "table2.json").is_file()
