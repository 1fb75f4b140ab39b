"""Figure 2 with tuned rows, from nothing to its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.sentiment.experiments import FIGURE2
from harness.graph.store import Store
from tests.small_sentiment import SMALL


def test_the_sweep_is_trained_with_the_chosen_settings(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    request = RunRequest(
        methods=("sft", "dpo"),
        seeds=1,
        tune=2,
        assignments=(*SMALL, "tuning.prompts=8"),
        workers=1,
        out=tmp_path / "out",
        store=tmp_path / "store",
    )
    figure = run_experiment(FIGURE2, request, recorder)
    assert [row["id"] for row in figure["rows"]] == ["sft", "dpo", "dpo-tuned"]
    (search,) = figure["tuning"]["rows"]["dpo-tuned"].values()
    assert list(search["trials"][0]["settings"]) == ["learning_rate"]
    assert search["trials"][0]["settings"]["learning_rate"] == 1e-3
    points = {entry["id"]: entry["points"] for entry in figure["methods"]}
    assert [(p["beta"], p["step"]) for p in points["dpo-tuned"]] == [
        (p["beta"], p["step"]) for p in points["dpo"]
    ]
    # The published settings again give the published run; others give another.
    assert (points["dpo-tuned"] == points["dpo"]) is (search["chosen"] == 0)

    # No validation prompt is a prompt of the figure or of the pairs.
    store = Store(tmp_path / "store")
    found: dict[str, Path] = {
        store.record(address)["name"]: store.folder(address) for address in store.addresses()
    }
    pairs = found["preference pairs seed 42"]
    validation = json.loads((found["validation prompts seed 42"] / "prompts.json").read_text())
    used = set(json.loads((pairs / "prompts.json").read_text()))
    for split in ("train", "test"):
        lines = (pairs / f"{split}.jsonl").read_text().splitlines()
        used |= {json.loads(line)["prompt"] for line in lines}
    assert len(validation) == 8
    assert not used & set(validation)
    assert (tmp_path / "out" / "tiny" / "figure2-tuned" / "figure2.png").is_file()
