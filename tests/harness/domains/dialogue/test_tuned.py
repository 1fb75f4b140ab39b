"""Table 1 with tuned rows, from nothing to its files: failures, a stop, and what stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.draw import redraw
from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.dialogue.experiments import TABLE1
from tests.small_table import SMALL

PLUGIN = """
from dataclasses import dataclass
from sparsepo.methods.dpo import DPO
from sparsepo.methods.search_space import Range

@dataclass(frozen=True)
class Wild(DPO):
    name = "wild"
    title = "Wild"
    search_space = {"learning_rate": Range(1e25, 1e30, relative=True)}
"""


def test_a_stop_repeats_no_trial_and_a_diverged_trial_stops_nothing(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    folder = tmp_path / "out" / "tiny" / "table1-tuned"

    def run(tune: int | None = 2) -> dict[str, Any]:
        request = RunRequest(
            methods=("dpo", "wild"),
            seeds=1,
            tune=tune,
            assignments=(
                *SMALL,
                "po.batch_size=8",
                "po.device_batch_size=8",
                "po.learning_rate=1e-4",
                *(("tuning.prompts=6",) if tune else ()),
            ),
            plugins=(str(plugin),),
            workers=1,
            out=tmp_path / "out",
            store=tmp_path / "store",
        )
        return run_experiment(TABLE1, request, recorder)

    # Stopped after a trial, as by Ctrl-C.
    finished = recorder.finished

    def stop(address: str, seconds: float, made: bool) -> None:
        finished(address, seconds, made)
        if recorder.made_stages[-1] == "validation of dpo-tuned, trial 1, seed 42":
            raise KeyboardInterrupt

    recorder.finished = stop
    with pytest.raises(KeyboardInterrupt):
        run()
    first = set(recorder.made_stages)
    assert "dpo-tuned, trial 1, seed 42" in first
    assert not folder.exists()
    recorder.finished = finished
    recorder.made_stages.clear()
    table = run()
    second = set(recorder.made_stages)
    assert not first & second
    assert "wild-tuned, trial 1, seed 42" in second
    written = (folder / "table1.json").read_bytes()
    assert json.loads(written) == table

    assert [row["id"] for row in table["rows"]] == ["dpo", "wild", "dpo-tuned", "wild-tuned"]
    tuning = table["tuning"]
    assert (tuning["trials"], tuning["criterion"]) == (2, "win_rate")
    wild = tuning["rows"]["wild-tuned"]["seed 42"]
    assert [trial["state"] for trial in wild["trials"]] == ["complete", "failed"]
    assert "not finite" in wild["trials"][1]["reason"]
    assert wild["chosen"] == 0
    own = tuning["rows"]["dpo-tuned"]["seed 42"]
    assert own["trials"][0]["settings"] == {"learning_rate": 1e-4, "beta": 0.1}
    assert [trial["state"] for trial in own["trials"]] == ["complete"] * 2
    assert all(0 <= trial["value"] <= 100 for trial in own["trials"])
    assert own["seconds"] == pytest.approx(sum(trial["seconds"] for trial in own["trials"]))
    values = {row["id"]: row["values"] for row in table["rows"]}
    # The kept trial is the published run.
    assert values["wild-tuned"] == values["wild"]
    text = (folder / "table1.md").read_text()
    assert "as published" in text
    assert "| Wild, tuned | seed 42: trial 0 (learning_rate 0.0001) | 1 of 2 |" in text

    # Again: nothing is made, nothing changes, and drawing needs the JSON alone.
    recorder.made_stages.clear()
    run()
    assert recorder.made_stages == []
    assert (folder / "table1.json").read_bytes() == written
    (folder / "table1.md").unlink()
    redraw(folder / "table1.json")
    assert (folder / "table1.md").read_text() == text

    # Without --tune the same rows come from the same stages, and the other result stays.
    published = run(None)
    assert recorder.made_stages == []
    assert published["rows"] == table["rows"][:2]
    assert "tuning" not in published
    assert (folder / "table1.json").read_bytes() == written
