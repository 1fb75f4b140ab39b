"""Table 1 from nothing to its files, with models so small that nothing is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.leaderboard import leaderboard_json
from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.dialogue.experiments import TABLE1
from harness.graph.store import Store
from sparsepo.errors import UserError
from tests.small_table import SMALL

PLUGIN = """
from dataclasses import dataclass
from sparsepo.methods.dpo import DPO

@dataclass(frozen=True)
class Doubled(DPO):
    name = "doubled-dpo"
    title = "Doubled DPO"

    def __call__(self, chosen, rejected):
        return super().__call__(chosen, rejected)
"""

FILES = {
    *(f"table1.{kind}" for kind in ("json", "md", "csv", "tex", "png", "samples.jsonl.gz")),
    "timings.json",
}


def test_cold_warm_corrupted_and_extended(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    # Whoever commits while the test runs must not change what is compared.
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    store, out = tmp_path / "store", tmp_path / "out"

    def run(methods: str, plugins: tuple[str, ...] = ()) -> tuple[dict[str, Any], bytes]:
        recorder.made_stages.clear()
        request = RunRequest(
            methods=tuple(methods.split(",")),
            seeds=1,
            assignments=SMALL,
            plugins=plugins,
            workers=1,
            out=out,
            store=store,
        )
        table = run_experiment(TABLE1, request, recorder)
        return table, (out / "tiny" / "table1" / "table1.json").read_bytes()

    table, written = run("sft,sparsepo-common")
    assert json.loads(written) == table
    assert {path.name for path in (out / "tiny" / "table1").iterdir()} == FILES
    assert [row["method"] for row in table["rows"]] == ["sft", "sparsepo-common"]
    assert table["columns"] == [column.id for column in TABLE1.columns]
    for row in table["rows"]:
        assert set(row["values"]) == set(table["columns"])
        for value in row["values"].values():
            low, high = value["ci95"]
            assert low <= value["mean"] <= high
            assert value["n"] > 0
            assert value["seeds"] == 1
        assert row["paper"]["avg"] > 0
    assert table["significance"] == []
    for row in table["supplement"]["rows"]:
        assert {c: v["n"] for c, v in row["values"].items()} == {
            "preference_accuracy": 10,
            "win_rate": 6,
        }
    # World, check, pairs, base; of each row model, leaderboard, responses, verdicts and token maps.
    assert len(recorder.made_stages) == 14
    made = table["provenance"]
    assert made["command"].startswith(
        "python -m harness run --table 1 --profile tiny --methods sft,sparsepo-common --seeds 1"
    )
    assert str(tmp_path) not in made["command"]
    assert "harness.domains.common.work.train:train_policy" in made["stages"]
    timings = json.loads((out / "tiny" / "table1" / "timings.json").read_text())
    costs = timings["training"]
    assert set(costs) == {"sft", "sparsepo-common"}
    assert [own["stage"] for own in costs["sparsepo-common"]] == ["sparsepo-common seed 42"]
    assert costs["sft"][0]["reference_seconds"] == 0.0
    assert costs["sft"][0]["tokens"] < costs["sparsepo-common"][0]["tokens"]

    # Again: nothing is made, nothing changes.
    assert run("sft,sparsepo-common")[1] == written
    assert recorder.made_stages == []

    # A damaged model is made again, and what came of it stays.
    opened = Store(store)
    for address in opened.addresses():
        if opened.record(address)["name"] == "sparsepo-common seed 42":
            (opened.folder(address) / "model" / "model.safetensors").write_bytes(b"0")
    assert run("sft,sparsepo-common")[1] == written
    assert recorder.made_stages == ["sparsepo-common seed 42"]
    assert any("model.safetensors does not have its recorded hash" in n for n in recorder.notes)

    # A plugged-in method is one row more, and only that is trained, from a reference's cache.
    table, _ = run("sft,doubled-dpo", (str(plugin),))
    assert [row["label"] for row in table["rows"]] == ["SFT", "Doubled DPO"]
    assert table["rows"][1]["paper"] is None
    assert recorder.made_stages[0] == "reference cache seed 42"
    assert all("doubled-dpo" in name for name in recorder.made_stages[1:])
    assert len(recorder.made_stages) == 6
    board = leaderboard_json(out, "tiny", "sft")
    assert {entry["id"] for entry in board["entries"]} == {"sft", "doubled-dpo"}
    plugged = next(entry for entry in board["entries"] if entry["id"] == "doubled-dpo")
    assert "--plugin plugin.py" in plugged["runs"][0]["command"]
    cost = plugged["cost"]["table1"]
    # The reference's cache is part of what training it takes.
    timings = json.loads((out / "tiny" / "table1" / "timings.json").read_text())
    (own,) = timings["training"]["doubled-dpo"]
    assert own["reference_seconds"] == timings["seconds"]["reference cache seed 42"] > 0.0
    assert cost["seconds"] == pytest.approx(own["seconds"] + own["reference_seconds"], abs=1e-3)
    assert plugged["against"]["table1/bbh"]["p"] is None

    # A place that cannot be written to is found before any work.
    (tmp_path / "file").write_text("")
    request = RunRequest(
        methods=("sft",), seeds=1, assignments=SMALL, out=tmp_path / "file", store=store
    )
    with pytest.raises(UserError, match="is a file"):
        run_experiment(TABLE1, request, recorder)
    assert (tmp_path / "file").read_text() == ""
