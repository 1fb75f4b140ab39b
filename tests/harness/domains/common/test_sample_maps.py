"""The stage that maps the tokens of a model's own responses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.domains.common.work.sample_maps import map_responses
from harness.graph.stages import StageContext
from sparsepo import POConfig, POTrainer
from sparsepo.data.jsonl import write_jsonl
from tests.small_models import small_model, small_tokenizer, text_pairs


def context(tmp_path: Path, run: Path) -> StageContext:
    pairs = text_pairs(4)
    for name in ("pairs", "responses", "work"):
        (tmp_path / name).mkdir()
    write_jsonl(map(asdict, pairs), tmp_path / "pairs" / "test.jsonl")
    rows = [{"pair_id": pair.pair_id, "response": f" a{pair.rejected}"} for pair in pairs]
    write_jsonl(rows, tmp_path / "responses" / "responses.jsonl")
    inputs = {"run": run, "model": tmp_path / "start"}
    inputs |= {name: tmp_path / name for name in ("pairs", "responses")}
    config = {"responses": 3, "max_length": 64, "max_prompt_length": 32, "device": "cpu"}
    return StageContext("maps", config, inputs, {}, tmp_path / "work", lambda *_: None, threads=1)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    folder = tmp_path / "start" / "model"
    small_model("gpt2").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def found(tmp_path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((tmp_path / "work" / "maps.json").read_text())
    return made


@pytest.mark.parametrize("method", ["sparsepo-common", "sft"])
def test_the_first_responses_are_mapped(tmp_path: Path, start: Path, method: str) -> None:
    config = POConfig(
        output_dir=str(tmp_path / "checkpoints"), method=method, max_steps=1, use_cpu=True,
        per_device_train_batch_size=4, report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = POTrainer(str(start), args=config, train_dataset=text_pairs(8))
    trainer.train()
    trainer.save_model(str(tmp_path / "run" / "model"))
    map_responses(context(tmp_path, tmp_path / "run"))
    made = found(tmp_path)
    assert made["reason"] is None
    pairs = text_pairs(4)
    assert list(made["responses"]) == sorted(pair.pair_id for pair in pairs[:3])
    for pair in pairs[:3]:
        own = made["responses"][pair.pair_id]
        assert "".join(own["tokens"]).startswith(f" a{pair.rejected}")
        assert len(own["log_ratios"]) == len(own["tokens"])
        # SFT reads no log-ratios and has no mask.
        assert (own["masked_rewards"] is None) == (method == "sft")


def test_without_maps_the_experiment_is_complete(tmp_path: Path, start: Path) -> None:
    map_responses(context(tmp_path, start.parent))
    made = found(tmp_path)
    assert made["responses"] == {} and "method" in made["reason"]
