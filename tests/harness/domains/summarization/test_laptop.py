"""The profile `laptop` of Figure 5 on a model of a GGUF file, from the command to the picture."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from harness.cli import main
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.packaged import SMOLLM2
from harness.domains.summarization import DOMAIN
from harness.domains.summarization.pipeline import NO_NLI, build_graph
from harness.domains.summarization.winrate import build_graph as build_winrate
from harness.graph.stages import topological
from tasks.summarization.world.config import PostWorldConfig
from tasks.summarization.world.write import pair_rows, post_rows
from tests.small_gguf import write_gguf
from tests.small_models import small_model, small_tokenizer

MERGE = "harness.domains.common.work.merge:merge_adapters"


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """A small model, pairs and posts, as `--set` takes them."""
    write_gguf(tmp_path / "model.gguf", small_model("llama"), small_tokenizer())
    config = PostWorldConfig()
    rows = {
        "tldr": pair_rows(config, Random(0), 40, held_out=False),
        "prompts": post_rows(config, Random(1), 8, 0.0, held_out=True),
    }
    for name, own in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in own)
        (tmp_path / f"{name}.jsonl").write_text(text)
    data = [f"data.{name}={tmp_path / name}.jsonl" for name in rows]
    return [f"model.summarization={tmp_path / 'model.gguf'}", *data]


def test_the_profile_trains_adapters_of_the_packaged_model_on_real_posts(
    settings: list[str],
) -> None:
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop"))
    assert profile.model.summarization == SMOLLM2.name
    assert profile.sft is not None
    assert profile.sft.lora_r == profile.po.lora_r == 16
    assert profile.data.tldr == "openai/summarize_from_feedback"
    # The package with the model need not be installed.
    changed = DOMAIN.resolve_profile(RunRequest(profile="laptop", assignments=(settings[0],)))
    found = build_graph(changed, EXPERIMENTS["figure5"].rows)
    assert found.missing == {"edna": NO_NLI, "summac": NO_NLI}


def test_preference_optimization_starts_from_the_merged_sft_model(settings: list[str]) -> None:
    request = RunRequest(profile="laptop", assignments=tuple(settings))
    profile = DOMAIN.resolve_profile(request)
    rows = EXPERIMENTS["figure5"].rows
    found = build_graph(profile, rows)
    merged = [stage for stage in topological(found.targets) if stage.function == MERGE]
    assert [stage.name for stage in merged] == ["sft seed 42, merged", "sft seed 43, merged"]
    for row, systems in found.systems.items():
        for chain, system in enumerate(systems):
            assert system.model is not None
            if row == "sft":
                assert merged[chain].inputs["model"].address == system.model.address
            else:
                assert system.model.inputs["model"].address == merged[chain].address
    # The judge of win rates is trained from a whole model too.
    judged = build_winrate(profile, rows, {}, request)
    wholes = [chain.answers.sft for chain in judged.chains]
    assert [one and one.address for one in wholes] == [one.address for one in merged]


def test_the_plan_knows_model_and_data(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["plan", "--figure", "5", "--profile", "laptop", "--out", "plan.json"]
    assert main([*command, "--set", *settings]) == 0
    plan = json.loads(Path("plan.json").read_text())
    assert not plan["unknown"]
    assert plan["fetch"] == []
    assert plan["workers"] == 2
    assert {one["kind"]: one["stages"] for one in plan["stages"]}["merged models"] == 2


@pytest.mark.slow
def test_figure_5_of_adapters_on_a_model_from_a_gguf_file(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["data.train_pairs=16", "data.test_pairs=4", "sampling.prompts=3",
             "sampling.samples=2", "sampling.new_tokens=6", "sampling.temperatures=0,1",
             "statistics.replicates=40",
             # The small model's context has 96 tokens.
             *(f"{part}.{limit}" for part in ("sft", "po")
               for limit in ("max_length=90", "max_prompt_length=60"))]  # fmt: skip
    command = ["run", "--figure", "5", "--profile", "laptop", "--methods", "sft,dpo",
               "--seeds", "1", "--quiet", "--set", *settings, *small]  # fmt: skip
    assert main(command) == 0
    folder = Path("results/laptop/figure5")
    result = json.loads((folder / "figure5.json").read_text())
    assert result["profile"] == "laptop"
    assert {"edna", "summac"} <= set(result["missing"])
    assert (folder / "figure5.png").stat().st_size > 10_000
    store = Path("results/.store")
    assert len(list(store.glob("*/model/adapter_config.json"))) == 2
    assert len(list(store.glob("*/model/model.safetensors"))) == 2
