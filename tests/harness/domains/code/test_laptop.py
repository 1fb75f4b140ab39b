"""The profile `laptop` of Table 2 on a model of a GGUF file, from the command to the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.commands.rehearse import rehearse
from harness.commands.run import describe
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.code import DOMAIN
from harness.domains.common.packaged import SMOLLM2
from harness.graph.stages import Stage, topological
from tasks.code.world import CodeWorldConfig, write_world
from tests.small_code_table import solutions
from tests.small_gguf import write_gguf
from tests.small_models import small_model, small_tokenizer

TABLE2 = EXPERIMENTS["table2"]
ROWS = ["base", "sft", "dpo", "sparsepo-common", "sparsepo-independent"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's file, and both benchmarks in their own schemas."""
    model = small_model("llama", max_position_embeddings=512)
    write_gguf(tmp_path / "model.gguf", model, small_tokenizer())
    world = CodeWorldConfig(
        documents=300, humaneval_problems=4, mbpp_test=5, mbpp_train=6, mbpp_validation=2
    )
    write_world(world, tmp_path)
    return tmp_path


def settings(folder: Path) -> tuple[str, ...]:
    files = {"model.code": "model.gguf", "data.humaneval": "humaneval.jsonl",
             "data.mbpp": "mbpp.jsonl"}  # fmt: skip
    return tuple(f"{key}={folder / name}" for key, name in files.items())


def requested(folder: Path, **more: object) -> RunRequest:
    values = {"profile": "laptop", "assignments": settings(folder), "allow_code_execution": True}
    return RunRequest(**values | more)  # type: ignore[arg-type]


def test_the_profile_starts_from_the_packaged_model_and_trains_adapters() -> None:
    profile = DOMAIN.resolve_profile(RunRequest(profile="laptop"))
    assert profile.model.code == SMOLLM2.name
    assert profile.po.lora_r is not None
    # pass@10 is a column, all of HumanEval is in it, and a program has room in a training row.
    assert profile.sampling.test_samples >= 10
    assert profile.sampling.limit is not None
    assert profile.sampling.limit >= 164
    room = profile.po.max_length - profile.po.max_prompt_length
    assert profile.sampling.max_new_tokens <= room
    # Its programs are not those of the embedded world.
    assert not profile.embedded


def test_a_night_has_few_rows_and_methods_add_the_others(folder: Path) -> None:
    assert [row.id for row in describe(TABLE2, requested(folder)).rows] == ROWS
    asked = requested(folder, methods=("base", "mapo", "tdpo1"))
    assert [row.id for row in describe(TABLE2, asked).rows] == ["base", "mapo", "tdpo1"]
    other = describe(TABLE2, RunRequest(profile="small", allow_code_execution=True)).rows
    assert other == TABLE2.rows


def test_training_problems_have_a_cap_of_their_own(folder: Path) -> None:
    def stages(*methods: str) -> dict[str, Stage]:
        graph = describe(TABLE2, requested(folder, methods=methods)).graph
        return {stage.name: stage for stage in topological(graph.targets)}

    found = stages("base", "dpo")
    sampling = DOMAIN.get_profile("laptop").sampling
    test, train = found["problems"], found["training problems"]
    assert test.config["sets"] == ["humaneval", "mbpp_test"]
    assert train.config["sets"] == ["mbpp_train", "mbpp_validation"]
    assert test.config["limit"] == sampling.limit
    assert train.config["limit"] == sampling.train_limit
    assert found["preference pairs seed 42"].inputs["problems"] == train
    for name, stage in found.items():
        if name.startswith(("samples of", "tuning samples", "verdicts on", "tuning verdicts")):
            assert stage.inputs["problems"] == (train if "training problems" in name else test)
    assert "training problems" not in stages("base")


def test_figures_and_all_rows_share_one_converted_model(folder: Path) -> None:
    table = describe(TABLE2, requested(folder, seeds=2))
    stages = topological(table.targets)
    assert [stage.name for stage in stages if ":convert_gguf" in stage.function] == ["model model"]
    assert len({stage.name for stage in stages}) == len(stages)
    for id in ("figure6", "figure8"):
        figure = describe(EXPERIMENTS[id], requested(folder))
        (runs,) = figure.graph.runs.values()
        assert list(runs) == list(DOMAIN.get_profile("laptop").tuning.betas)
        made = {stage.address for stage in stages}
        assert {stage.address for stage in topological(figure.targets)} <= made


def test_the_plan_counts_the_problems_of_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    command = ["plan", "--table", "2", "--profile", "laptop", "--methods", "base,dpo"]
    command += ["--out", "plan.json"]
    assert main([*command, "--set", *settings(folder)]) == 0
    shown = capsys.readouterr().out
    assert "models from GGUF files" in shown
    assert "with 2 stages at a time" in shown
    assert "needs --allow-code-execution" in shown
    plan = json.loads(Path("plan.json").read_text())
    assert not plan["unknown"]
    assert plan["fetch"] == []

    def hours(*changes: str) -> float:
        assert main([*command, "--set", *settings(folder), *changes]) == 0
        programs = json.loads(Path("plan.json").read_text())["stages"]
        (found,) = [one["core_hours"] for one in programs if one["kind"] == "programs"]
        return float(found)

    whole = hours("sampling.limit=none", "tuning.betas=0.1")
    # No set has a hundred problems; with a cap of two each set has two.
    assert hours("sampling.limit=100", "tuning.betas=0.1") == whole
    assert hours("sampling.limit=2", "tuning.betas=0.1") < whole


def test_a_file_that_is_no_benchmark_is_not_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    Path("mbpp.jsonl").write_text('{"text": "no problem"}\n')
    command = ["plan", "--table", "2", "--profile", "laptop", "--methods", "base"]
    assert main([*command, "--set", *settings(folder)]) == 0
    assert "Not known, and not in the totals:" in capsys.readouterr().out


@pytest.mark.slow
def test_pass_at_k_of_adapters_on_a_model_from_a_gguf_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    small = ["sampling.test_samples=2", "sampling.max_new_tokens=6", "data.epochs=1",
             "po.batch_size=4", "tuning.problems=2", "tuning.samples=2", "statistics.replicates=50",
             f"data.answers={solutions(folder / 'answers')}"]  # fmt: skip
    command = ["run", "--table", "2", "--profile", "laptop", "--allow-code-execution", "--quiet"]
    command += ["--methods", "base,dpo", "--set", *settings(folder), *small]
    assert main(command) == 0
    table = json.loads(Path("results/laptop/table2/table2.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["base", "dpo"]
    counts = {"humaneval_pass@1": 4, "mbpp_pass@1": 5}
    for row in table["rows"]:
        assert {name: row["values"][name]["n"] for name in counts} == counts
    (tuned,) = table["tuned"]["dpo"].values()
    assert set(tuned["scores"]) == {"0.1", "0.8"}
    assert len(list(Path("results/.store").glob("*/model/adapter_config.json"))) >= 2


@pytest.mark.slow
def test_the_profile_is_rehearsed(folder: Path) -> None:
    request = requested(
        folder,
        methods=("base", "sft"),
        assignments=settings(folder)[:1],
        quiet=True,
    )
    assert rehearse([TABLE2], request, folder / "rehearsal") == 0
    table = json.loads((folder / "rehearsal" / "laptop" / "table2" / "table2.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["base", "sft"]
