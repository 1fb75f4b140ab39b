"""The profile `laptop` on a model of a GGUF file, from the command to the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.packaged import SMOLLM2
from harness.domains.sentiment import DOMAIN
from harness.domains.sentiment.pipeline import build_graph
from harness.graph.stages import topological
from tests.small_gguf import write_gguf
from tests.small_models import small_model, small_tokenizer, text_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "model.gguf", small_model("llama"), small_tokenizer())
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_profile_starts_from_the_packaged_model_and_trains_adapters() -> None:
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop"))
    assert profile.model.sentiment == SMOLLM2.name
    assert profile.po.lora_r is not None
    assert profile.sweep.map_beta in profile.sweep.beta


def test_every_chain_and_every_run_share_one_converted_model(folder: Path) -> None:
    settings = (
        f"model.sentiment={folder / 'model.gguf'}",
        f"data.reviews={folder / 'pairs.jsonl'}",
    )
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop", assignments=settings))
    figure = EXPERIMENTS["figure2"]
    stages = topological(build_graph(figure, profile, figure.rows, {}).targets)
    assert [stage.name for stage in stages if ":convert_gguf" in stage.function] == ["model model"]
    assert len({stage.name for stage in stages}) == len(stages)


def test_the_plan_knows_the_model_from_the_header_of_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    settings = ["model.sentiment=model.gguf", "data.reviews=pairs.jsonl"]
    command = ["plan", "--figure", "4", "--profile", "laptop", "--out", "plan.json"]
    assert main([*command, "--set", *settings]) == 0
    shown = capsys.readouterr().out
    assert "models from GGUF files" in shown
    assert "with 2 stages at a time" in shown
    plan = json.loads(Path("plan.json").read_text())
    assert not plan["unknown"]
    assert plan["fetch"] == []
    assert plan["total"]["flops"] > 0
    # The converted weights, and three runs' adapters.
    weights = 4 * sum(w.numel() for w in small_model("llama").state_dict().values())
    assert weights < plan["disk"]["store_bytes"] < 4 * weights


@pytest.mark.slow
def test_token_maps_of_adapters_on_a_model_from_a_gguf_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    settings = ["model.sentiment=model.gguf", "data.pairs=pairs.jsonl", "data.test_prompts=4",
                "sampling.new_tokens=6", "evaluation.steps=4", "po.device_batch_size=4",
                "po.batch_size=4"]  # fmt: skip
    command = ["run", "--figure", "4", "--profile", "laptop", "--quiet", "--set", *settings]
    assert main(command) == 0
    result = json.loads(Path("results/laptop/figure4/figure4.json").read_text())
    assert result["profile"] == "laptop"
    assert Path("results/laptop/figure4/figure4.png").stat().st_size > 10_000
    labels = [model["label"] for model in result["maps"]["models"]]
    assert labels == ["TDPO v1", "SparsePO (common)", "SparsePO (independent)"]
    adapters = list(Path("results/.store").glob("*/model/adapter_config.json"))
    assert len(adapters) == 3
    # Run again, everything is in the store; the file itself is needed only for its hash.
    assert main(command) == 0
