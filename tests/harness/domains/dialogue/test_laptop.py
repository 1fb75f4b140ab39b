"""The profile `laptop` of Table 1 on a model of a GGUF file, from the command to the table."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from harness.cli import main
from harness.commands.plan.benchmarks import Planned, rows_of_file
from harness.commands.plan.cost_model import Shape, forward_flops
from harness.commands.plan.facts import Benchmark
from harness.commands.plan.model_sizes import UnknownSizeError
from harness.commands.rehearse.reduced import reductions
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.packaged import SMOLLM2
from harness.domains.dialogue import DOMAIN
from harness.domains.dialogue.pipeline import Graph, build_graph
from harness.graph.stages import topological
from sparsepo.errors import UserError
from tasks.dialogue.world import WorldConfig
from tasks.dialogue.world.write import leaderboard_rows, pair_rows
from tests.small_gguf import write_gguf
from tests.small_models import small_model, small_tokenizer

MERGE = "harness.domains.common.work.merge:merge_adapters"
NAMED = ("bbh", "musr", "mmlu_pro", "ifeval")


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """A small model and a few rows of everything, as `--set` takes them."""
    write_gguf(tmp_path / "model.gguf", small_model("llama"), small_tokenizer())
    config = WorldConfig(rows=dict.fromkeys(NAMED, 8))
    own = {name: leaderboard_rows(config, Random(name), name) for name in NAMED}
    own["hh_rlhf"] = list(pair_rows(config, Random(0), 60, held_out=False))
    for name, rows in own.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    data = [f"data.{name}={tmp_path / name}.jsonl" for name in own]
    return [f"model.dialogue={tmp_path / 'model.gguf'}", *data]


def graph(settings: list[str], *methods: str) -> Graph:
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop", assignments=tuple(settings)))
    rows = [row for row in EXPERIMENTS["table1"].rows if not methods or row.id in methods]
    return build_graph(profile, rows)


def test_the_profile_trains_adapters_of_the_packaged_model_on_real_rows() -> None:
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop"))
    assert profile.model.dialogue == SMOLLM2.name
    assert profile.sft.lora_r == profile.po.lora_r == 16
    assert profile.pair_source.real
    sources = {name: getattr(profile.data, name) for name in (*NAMED, "math_hard", "gpqa")}
    assert sources == {**dict.fromkeys(NAMED, "hub"), "math_hard": None, "gpqa": None}
    assert all(getattr(profile.evaluation.limits, name) for name in NAMED)


def test_preference_optimization_starts_from_the_merged_sft_model(settings: list[str]) -> None:
    found = graph(settings)
    stages = topological(found.targets)
    merged = [stage for stage in stages if stage.function == MERGE]
    assert [stage.name for stage in merged] == ["sft seed 42, merged", "sft seed 43, merged"]
    for row, systems in found.systems.items():
        for chain, system in enumerate(systems):
            if row == "sft":
                # What is evaluated is the run itself.
                assert merged[chain].inputs["model"].address == system.model.address
            else:
                assert system.model.inputs["model"].address == merged[chain].address
    assert [stage.name for stage in stages if ":convert_gguf" in stage.function] == ["model model"]


def test_a_model_that_is_trained_whole_is_not_merged(settings: list[str]) -> None:
    whole = ("sft.lora_r=none", "sft.lora_alpha=none", "sft.lora_targets=none")
    found = graph([*settings, *whole], "sft", "dpo")
    assert not [stage for stage in topological(found.targets) if stage.function == MERGE]
    with pytest.raises(UserError, match="Adapters of a 4-bit model cannot be merged"):
        graph([*settings, "sft.load_in_4bit=true"])


def test_the_plan_counts_the_rows_of_files(
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["plan", "--table", "1", "--profile", "laptop", "--out", "plan.json"]
    assert main([*command, "--set", *settings]) == 0
    assert "with 2 stages at a time" in capsys.readouterr().out
    plan = json.loads(Path("plan.json").read_text())
    assert not plan["unknown"]
    assert plan["fetch"] == []
    kinds = {one["kind"]: one for one in plan["stages"]}
    assert kinds["leaderboards"]["flops"] > 0
    assert kinds["merged models"]["stages"] == 2
    # The converted weights, those of two merged models, and adapters.
    weights = 4 * sum(w.numel() for w in small_model("llama").state_dict().values())
    assert 3 * weights < plan["disk"]["store_bytes"]


def test_rows_of_a_file_are_counted_by_task_up_to_the_cap(tmp_path: Path) -> None:
    def row(subset: str) -> dict[str, str]:
        return {"subset": subset, "input": "a", "target": "b"}

    names = ["navigate"] * 7 + ["snarks"] * 2 + ["dyck_languages"] * 5
    file = tmp_path / "bbh.jsonl"
    file.write_text("".join(json.dumps(row(name)) + "\n" for name in names))
    assert rows_of_file("bbh", file, 4) == {"navigate": 4, "snarks": 2}
    assert rows_of_file("bbh", file, None) == {"navigate": 7, "snarks": 2}
    (tmp_path / "other.jsonl").write_text('{"question": "a"}\n')
    for unreadable in (tmp_path, tmp_path / "other.jsonl"):
        with pytest.raises(UnknownSizeError):
            rows_of_file("bbh", unreadable, None)


def test_packed_requests_share_their_prompt_and_a_tasks_examples() -> None:
    shape = Shape(layers=2, width=4, inner=8, vocabulary=10, parameters=1_000)
    size = Benchmark("", 0, 1, prompt=400, requests=4, examples=3)
    apart = Planned(size, rows=6, tasks=1, pack_tokens=None)
    assert apart.flops(shape) == forward_flops(shape, 24 * 400, 400, 24)
    # 300 tokens of examples, and three rows of 100: the first, and 200 tokens more.
    packed = Planned(size, rows=6, tasks=1, pack_tokens=200)
    assert packed.flops(shape) == forward_flops(shape, 2 * 600, 600, 24)
    # No more rows than a task has.
    alone = Planned(size, rows=6, tasks=6, pack_tokens=200)
    assert alone.flops(shape) == forward_flops(shape, 6 * 400, 400, 24)


def test_a_rehearsal_takes_one_row_of_every_task() -> None:
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop"))
    changes = tuple(reductions(profile, judged=False, answers=None))
    small = DOMAIN.resolve_profile(RunRequest(profile="laptop", assignments=changes))
    assert {getattr(small.evaluation.limits, name) for name in NAMED} == {1}
    # A cap that a profile does not have is not added.
    other = DOMAIN.resolve_profile(RunRequest(profile="small"))
    assert "evaluation.limits.bbh=1" not in list(reductions(other, judged=False, answers=None))


@pytest.mark.slow
def test_table_1_of_adapters_on_a_model_from_a_gguf_file(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["data.train_pairs=16", "data.test_pairs=4", "evaluation.limit=2",
             *(f"evaluation.limits.{name}=2" for name in NAMED), "evaluation.ifeval_tokens=4",
             "evaluation.pack_tokens=64", "statistics.replicates=50",
             # The small model's context has 96 tokens.
             *(f"{part}.{limit}" for part in ("sft", "po")
               for limit in ("max_length=90", "max_prompt_length=60"))]  # fmt: skip
    command = ["run", "--table", "1", "--profile", "laptop", "--seeds", "1", "--quiet",
               "--methods", "base,sft,sparsepo-common", "--set", *settings, *small]  # fmt: skip
    assert main(command) == 0
    result = json.loads(Path("results/laptop/table1/table1.json").read_text())
    assert [row["id"] for row in result["rows"]] == ["base", "sft", "sparsepo-common"]
    for row in result["rows"]:
        assert row["values"]["bbh"] is not None
        assert row["values"]["ifeval_inst"] is not None
        assert row["values"]["gpqa"] is None
    # What is not optimized has no implicit reward.
    assert [row["id"] for row in result["supplement"]["rows"]] == ["sft", "sparsepo-common"]
    assert set(result["missing"]) >= {"math_hard", "gpqa", "win_rate"}
    store = Path("results/.store")
    # SFT and SparsePO leave adapters; the converted and the merged model are whole.
    assert len(list(store.glob("*/model/adapter_config.json"))) == 2
    assert len(list(store.glob("*/model/model.safetensors"))) == 2
    assert main(command) == 0
