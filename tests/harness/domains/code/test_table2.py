"""Table 2 and its figures from nothing to their files, with models that learn nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.code.experiments import FIGURE8, TABLE2
from sparsepo.errors import UserError
from tests.small_code_table import SMALL_CODE, solutions


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    # Whoever commits while the test runs must not change what is compared.
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)


def test_cold_warm_and_figures_from_the_same_runs(tmp_path: Path, recorder: Any) -> None:
    answers = solutions(tmp_path / "answers")
    request = RunRequest(
        methods=("base", "dpo", "sparsepo-common"),
        seeds=1,
        assignments=(*SMALL_CODE, f"data.answers={answers}"),
        workers=1,
        out=tmp_path / "out",
        store=tmp_path / "store",
    )
    table = run_experiment(TABLE2, request, recorder)
    folder = tmp_path / "out" / "tiny" / "table2"
    written = (folder / "table2.json").read_bytes()
    assert json.loads(written) == table
    assert {path.name for path in folder.iterdir()} == {
        *(f"table2.{kind}" for kind in ("json", "md", "csv", "tex", "samples.jsonl.gz")),
        "timings.json",
    }
    assert [row["method"] for row in table["rows"]] == ["base", "dpo", "sparsepo-common"]
    for row in table["rows"]:
        for column, value in row["values"].items():
            if column.endswith("@1"):
                low, high = value["ci95"]
                assert low <= value["mean"] <= high
                assert (value["n"], value["seeds"]) == (4, 1)
            else:
                assert value is None
        assert row["paper"]["humaneval_pass@100"] > 0
    assert set(table["missing"]) == {c.id for c in TABLE2.columns if not c.id.endswith("@1")}
    assert {entry["baseline"] for entry in table["significance"]} == {"base", "dpo"}
    assert set(table["tuned"]) == {"dpo", "sparsepo-common"}
    for chains in table["tuned"].values():
        (tuned,) = chains.values()
        assert set(tuned["scores"]) == {"0.2", "0.8"}
        assert tuned["hyper_parameters"]["beta"] in (0.2, 0.8)
    evaluation = table["provenance"]["evaluation"]
    assert len(evaluation["tiers"]) == 1
    for benchmarks in evaluation["verdicts"].values():
        for verdicts in benchmarks.values():
            assert sum(verdicts.values()) == 4 * 2
    assert any("Isolation:" in note for note in table["notes"])
    trained = table["provenance"]["training"]["dpo seed 42"]
    # 2 epochs of 6 prompts in batches of 4, in one pass.
    assert trained["steps"] == 3
    made = len(recorder.made_stages)
    # world, problems, base; pairs and cache; base's samples and verdicts; of each method 2 · 3
    # stages of tuning, a choice, the run that is kept, its samples and verdicts.
    assert made == 3 + 2 + 2 + 2 * (2 * 3 + 1 + 3)

    # Again, and a figure of the same runs: nothing is made.
    recorder.made_stages.clear()
    run_experiment(TABLE2, request, recorder)
    assert (folder / "table2.json").read_bytes() == written
    figure = run_experiment(
        FIGURE8,
        RunRequest(
            assignments=(*request.assignments, "dynamics.masks=common"),
            workers=1,
            out=request.out,
            store=request.store,
        ),
        recorder,
    )
    assert recorder.made_stages == []
    assert [panel["response"] for panel in figure["panels"]] == ["rejected"] * 2
    for panel in figure["panels"]:
        assert [series["beta"] for series in panel["series"]] == [0.2, 0.8]
        assert all(series["steps"] == [1, 2, 3] for series in panel["series"])
    names = {path.name for path in (tmp_path / "out" / "tiny" / "figure8-common").iterdir()}
    assert names == {"figure8.json", "figure8.png", "figure8.pdf", "timings.json"}


def test_a_model_that_solves_nothing_leaves_no_pair_and_says_so(
    tmp_path: Path, recorder: Any
) -> None:
    request = RunRequest(
        methods=("dpo",),
        seeds=1,
        assignments=SMALL_CODE,
        workers=1,
        out=tmp_path / "out",
        store=tmp_path / "store",
    )
    with pytest.raises(UserError, match="None of the 6 train problems has both 2 passing"):
        run_experiment(TABLE2, request, recorder)
    assert "verdicts on the training problems seed 42" in recorder.made_stages
    assert not (tmp_path / "out" / "tiny").exists()
