from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sparsepo.batches.chat import CHAT_TEMPLATE
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.leaderboard_v2 import backend as backend_module
from tasks.leaderboard_v2 import evaluate as evaluate_module
from tasks.leaderboard_v2.backend import LeaderboardLM
from tasks.leaderboard_v2.evaluate import (
    LeaderboardSettings,
    evaluate_leaderboard,
    prepare,
    run_suite,
)
from tasks.leaderboard_v2.rows import read_benchmark
from tasks.leaderboard_v2.scoring import COLUMNS, LEAF_TASKS, columns_from_scores
from tasks.leaderboard_v2.suite import UPSTREAM, build_suite
from tasks.models.generation import SampledIds

from .conftest import ROWS, write_jsonl

SETTINGS = LeaderboardSettings(max_length=512, max_gen_toks=12, batch_size=8)
LEAVES = {
    "leaderboard_bbh_boolean_expressions": 4,
    "leaderboard_bbh_ruin_names": 2,
    "leaderboard_bbh_tracking_shuffled_objects_three_objects": 4,
    "leaderboard_math_algebra_hard": 2,
    "leaderboard_math_counting_and_prob_hard": 1,
    "leaderboard_gpqa_main": 5,
    "leaderboard_gpqa_diamond": 1,
    "leaderboard_musr_murder_mysteries": 3,
    "leaderboard_musr_object_placements": 3,
    "leaderboard_musr_team_allocation": 3,
    "leaderboard_mmlu_pro": 4,
    "leaderboard_ifeval": 4,
}


@pytest.fixture(scope="module")
def result(
    model_dir: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("result")
    returned = evaluate_leaderboard(model_dir, data, SETTINGS, output)
    written: dict[str, Any] = json.loads((output / "leaderboard.json").read_text())
    assert written == returned  # nothing in it that JSON would change
    return written


def test_every_leaf_with_rows_is_evaluated(result: dict[str, Any]) -> None:
    assert {leaf: task["n"] for leaf, task in result["tasks"].items()} == LEAVES
    for leaf, task in result["tasks"].items():
        assert len(task["scores"]) == len(task["row_ids"]) == len(set(task["row_ids"])) == task["n"]
        assert task["benchmark"] == LEAF_TASKS[leaf].benchmark
        assert task["raw"] == pytest.approx(np.mean(task["scores"]))
        if task["benchmark"] != "mmlu_pro":
            assert task["chance"] == LEAF_TASKS[leaf].chance
    # Options of the evaluated rows: 5, 3, 4, 5.
    assert result["tasks"]["leaderboard_mmlu_pro"]["chance"] == pytest.approx(
        (2 / 5 + 1 / 3 + 1 / 4) / 4
    )
    assert result["missing"] == []
    assert result["skipped"]["bbh"] == {"'word_sorting' is not part of the leaderboard": 1}


def test_columns_are_those_of_the_scores(result: dict[str, Any]) -> None:
    assert list(result["columns"]) == [*COLUMNS, "avg"]
    for normalised in (True, False):
        expected = columns_from_scores(result["tasks"], normalised=normalised)
        for column, values in expected.items():
            kind = "normalised" if normalised else "raw"
            assert result["columns"][column][kind] == pytest.approx(values[0])
    assert result["columns"]["avg"]["complete"] is True
    assert result["columns"]["avg"]["n"] == sum(LEAVES.values())
    assert result["columns"]["ifeval_inst"]["n"] == 6
    assert result["columns"]["bbh"]["tasks"] == 3
    assert result["columns"]["bbh"]["tasks_of_benchmark"] == 24


def test_a_target_that_is_no_choice_scores_zero(result: dict[str, Any]) -> None:
    task = result["tasks"]["leaderboard_bbh_ruin_names"]
    assert task["row_ids"] == ["8", "9"]
    assert task["scores"][1] == 0


def test_the_place_of_each_right_option_is_recorded(result: dict[str, Any]) -> None:
    places = {leaf: task.get("right_options") for leaf, task in result["tasks"].items()}
    assert places["leaderboard_bbh_boolean_expressions"] == [0, 1, 0, 1]
    assert places["leaderboard_bbh_ruin_names"] == [0, None]
    assert places["leaderboard_musr_murder_mysteries"] == [0, 1, 0]
    assert places["leaderboard_musr_object_placements"] == [0, 1, 2]
    assert len(places["leaderboard_gpqa_main"]) == 5
    assert set(places["leaderboard_gpqa_main"]) <= {0, 1, 2, 3}
    assert len(places["leaderboard_mmlu_pro"]) == 4
    # Not of tasks in which the model writes.
    assert places["leaderboard_ifeval"] is places["leaderboard_math_algebra_hard"] is None


def test_caps_and_splitter_are_recorded(result: dict[str, Any]) -> None:
    for leaf in ("leaderboard_ifeval", "leaderboard_math_algebra_hard"):
        assert result["tasks"][leaf]["max_gen_toks"] == 12
        assert len(result["tasks"][leaf]["responses"]) == LEAVES[leaf]
    assert result["sentence_splitter"] in ("punkt_tab", "punkt with built-in abbreviations")
    assert result["versions"]["lm_eval"] == lm_eval.__version__
    assert result["settings"]["max_length"] == result["max_length"] == 512
    assert result["tasks"]["leaderboard_bbh_ruin_names"]["num_fewshot"] == 3
    assert result["tasks"]["leaderboard_mmlu_pro"]["examples_from"].startswith("first 5 test rows")


def test_truncated_prompts_are_reported(result: dict[str, Any]) -> None:
    # MATH's four upstream examples do not fit 500 tokens; short zero-shot prompts do.
    assert result["tasks"]["leaderboard_math_algebra_hard"]["truncated_prompts"] == 2
    assert result["tasks"]["leaderboard_musr_team_allocation"]["truncated_prompts"] == 0
    counted = sum(task["truncated_prompts"] for task in result["tasks"].values())
    assert result["truncated_prompts"] == counted


def yaml_tasks(folder: Path, data: Mapping[str, Path]) -> list[str]:
    """lm-eval's definitions with nothing but the data files replaced, as its users write them."""
    names = []
    for benchmark, path in data.items():
        found = read_benchmark(benchmark, path)  # type: ignore[arg-type]
        for leaf, part in found.leaves.items():
            split = LEAF_TASKS[leaf].key if benchmark == "musr" else "test"
            split = "train" if benchmark == "ifeval" else split
            files = {split: str(write_jsonl(folder / f"{leaf}.jsonl", part.rows))}
            if part.examples:
                files["validation"] = str(write_jsonl(folder / f"{leaf}.val.jsonl", part.examples))
            override = {
                "include": str(UPSTREAM / LEAF_TASKS[leaf].yaml),
                "task": leaf,
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
            }
            if LEAF_TASKS[leaf].choices is None:
                override["generation_kwargs"] = {
                    "until": [] if benchmark == "ifeval" else ["Problem:"],
                    "do_sample": False,
                    "temperature": 0,
                    "max_gen_toks": 12,
                }
            (folder / f"{leaf}.yaml").write_text(yaml.safe_dump(override))
            names.append(leaf)
    return names


@pytest.mark.parametrize("benchmarks", [("bbh", "math_hard", "musr", "mmlu_pro"), ("ifeval",)])
def test_scores_are_those_of_simple_evaluate(
    result: dict[str, Any],
    model_dir: Path,
    data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    benchmarks: tuple[str, ...],
) -> None:
    # What lm-eval alone makes of the same rows: its own task manager, backend and data sets.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)
    chat = benchmarks == ("ifeval",)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(model_dir),
        tokenizer=tokenizer,
        batch_size=1,
        max_length=512,
    )
    names = yaml_tasks(tmp_path, {name: data[name] for name in benchmarks})
    theirs = lm_eval.simple_evaluate(
        model=model,
        tasks=names,
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        apply_chat_template=chat,
        bootstrap_iters=0,
    )
    assert theirs is not None
    for leaf in names:
        metric = LEAF_TASKS[leaf].metric
        ours = result["tasks"][leaf]
        assert ours["raw"] == pytest.approx(theirs["results"][leaf][f"{metric},none"]), leaf
        samples = sorted(theirs["samples"][leaf], key=lambda sample: sample["doc_id"])
        assert ours["scores"] == [float(sample[metric]) for sample in samples], leaf
        if "responses" in ours:
            assert ours["responses"] == [sample["filtered_resps"][0] for sample in samples]
    if chat:
        strict = theirs["results"]["leaderboard_ifeval"]["inst_level_strict_acc,none"]
        assert result["columns"]["ifeval_inst"]["raw"] == pytest.approx(strict)


def test_gpqa_is_lm_evals_on_equally_shuffled_answers(
    result: dict[str, Any], model_dir: Path, data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)
    suite = build_suite({"gpqa": read_benchmark("gpqa", data["gpqa"])}, seed=SETTINGS.seed)
    model = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(model_dir),
        tokenizer=AutoTokenizer.from_pretrained(model_dir),
        batch_size=1,
        max_length=512,
    )
    theirs = lm_eval.simple_evaluate(
        model=model,
        tasks=list(suite.tasks.values()),
        task_manager=TaskManager(include_path=str(UPSTREAM), include_defaults=False),
        bootstrap_iters=0,
    )
    assert theirs is not None
    for leaf in suite.tasks:
        samples = sorted(theirs["samples"][leaf], key=lambda sample: sample["doc_id"])
        assert result["tasks"][leaf]["scores"] == [float(s["acc_norm"]) for s in samples]


def test_gpqa_shuffle_is_seeded_and_stable(data: dict[str, Path]) -> None:
    def letters(seed: int) -> list[str]:
        found = build_suite({"gpqa": read_benchmark("gpqa", data["gpqa"])}, seed)
        task = found.tasks["leaderboard_gpqa_main"]
        first = [document["answer"] for document in task.eval_docs]
        assert [document["answer"] for document in task.eval_docs] == first
        for document in task.eval_docs:
            place = "(A)(B)(C)(D)".index(document["answer"]) // 3 + 1
            assert document[f"choice{place}"] == document["Correct Answer"]
        return first

    assert letters(0) == letters(0)
    assert len({tuple(letters(seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    "changes", [{"batch_size": 1}, {"batch_size": 3, "pack_tokens": None}, {"pack_tokens": 4000}]
)
def test_batch_size_and_packing_do_not_move_a_score(
    result: dict[str, Any],
    model_dir: Path,
    data: dict[str, Path],
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    settings = LeaderboardSettings(
        **{"max_length": 512, "max_gen_toks": 12, "batch_size": 8, **changes}
    )
    other = evaluate_leaderboard(model_dir, data, settings, tmp_path)
    for leaf, task in result["tasks"].items():
        assert other["tasks"][leaf] == task
    assert other["columns"] == result["columns"]


def test_tasks_are_built_once_and_again_when_the_data_change(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "_PREPARED_ENTRIES", 2)
    mine = {"bbh": write_jsonl(tmp_path / "bbh.jsonl", ROWS["bbh"]), "ifeval": data["ifeval"]}
    first = prepare(mine, SETTINGS, 512)
    assert prepare(mine, SETTINGS, 512) is first
    assert prepare(mine, SETTINGS, 256) is not first  # the cap on new tokens depends on it
    write_jsonl(mine["bbh"], ROWS["bbh"][:2])
    changed = prepare(mine, SETTINGS, 512)
    assert changed is not first
    assert len(changed.suite.rows["leaderboard_bbh_boolean_expressions"].rows) == 2
    assert len(evaluate_module._prepared) == 2


def test_tokenised_requests_of_two_tokenizers_are_kept_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend_module, "_TOKEN_CACHE_CHARACTERS", 10)
    cache = backend_module._TokenCache()
    cache.add(("one", "a", "b"), ([1], [2]))
    cache.add(("two", "a", "b"), ([3], [4]))
    assert cache.pairs == {("one", "a", "b"): ([1], [2]), ("two", "a", "b"): ([3], [4])}
    cache.add(("two", "c", ""), ([5], [6]))
    assert cache.pairs == {("two", "c", ""): ([5], [6])}


def test_a_second_model_reuses_requests_but_not_answers(
    result: dict[str, Any],
    model_dir: Path,
    data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_dir = tmp_path / "other"
    shutil.copytree(model_dir, other_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(other_dir)

    evaluate_leaderboard(model_dir, data, SETTINGS, tmp_path / "warm")
    monkeypatch.setattr(
        "lm_eval.api.task.ConfigurableTask.fewshot_context",
        lambda *args, **kwargs: pytest.fail("requests were built again"),
    )
    again = evaluate_leaderboard(model_dir, data, SETTINGS, tmp_path / "again")
    assert again["tasks"] == result["tasks"]
    other = evaluate_leaderboard(other_dir, data, SETTINGS, tmp_path / "other-result")
    assert other["tasks"] != result["tasks"]
    monkeypatch.undo()
    evaluate_module._prepared.clear()
    fresh = evaluate_leaderboard(other_dir, data, SETTINGS, tmp_path / "fresh")
    assert fresh["tasks"] == other["tasks"]


def test_another_chat_template_builds_other_requests(
    result: dict[str, Any], model_dir: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "model"
    shutil.copytree(model_dir, other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.chat_template = "{{ messages[0]['content'] }} Please: "
    tokenizer.save_pretrained(other)
    changed = evaluate_leaderboard(other, {"ifeval": data["ifeval"]}, SETTINGS, tmp_path)
    leaf = "leaderboard_ifeval"
    assert changed["tasks"][leaf]["responses"] != result["tasks"][leaf]["responses"]


@pytest.mark.parametrize("bos", [False, True])
def test_chat_prompts_are_those_of_training(
    tokenizer: PreTrainedTokenizerFast,
    model_dir: Path,
    data: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    bos: bool,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.chat_template = CHAT_TEMPLATE
    if bos:  # as Llama's: text is given a BOS that the chat template does not write
        from tokenizers.processors import TemplateProcessing

        tokenizer.bos_token = "<|pad|>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|pad|> $A", special_tokens=[("<|pad|>", tokenizer.bos_token_id)]
        )
        assert tokenizer("x").input_ids[0] == tokenizer.bos_token_id
    lm = LeaderboardLM(
        AutoModelForCausalLM.from_pretrained(model_dir),
        tokenizer,
        batch_size=1,
        max_length=512,
        pack_tokens=None,
    )
    seen: list[list[int]] = []

    def record(model: Any, prompts: list[list[int]], *args: Any, **kwargs: Any) -> SampledIds:
        seen.extend(prompts)
        return SampledIds([[tokenizer.eos_token_id] for _ in prompts], 0)

    monkeypatch.setattr(backend_module, "sample_ids", record)
    suite = build_suite(
        {"ifeval": read_benchmark("ifeval", data["ifeval"])}, 0, lambda name, upstream: 12
    )
    run_suite(lm, suite, seed=0)
    pairs = [
        PreferencePair(
            str(row["key"]),
            [{"role": "user", "content": row["prompt"]}],
            [{"role": "assistant", "content": "Yes."}],
            [{"role": "assistant", "content": "No."}],
        )
        for row in ROWS["ifeval"]
    ]
    trained = tokenize_pairs(pairs, tokenizer, max_length=512, max_prompt_length=400).pairs
    assert sorted(seen) == sorted(list(pair.prompt_ids) for pair in trained)


def test_benchmarks_without_data_are_missing_not_zero(
    model_dir: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    found = evaluate_leaderboard(
        model_dir,
        {"bbh": data["bbh"], "musr": empty, "gpqa": None},
        LeaderboardSettings(limit={"bbh": 1}, max_length=256),
        tmp_path / "here.json",
    )
    assert (tmp_path / "here.json").is_file()
    assert list(found["columns"]) == ["bbh", "avg"]
    assert found["columns"]["avg"]["complete"] is False
    assert found["columns"]["avg"]["columns"] == ["bbh"]
    assert found["columns"]["avg"]["normalised"] == found["columns"]["bbh"]["normalised"]
    assert {entry["benchmark"]: entry["reason"] for entry in found["missing"]} == {
        "math_hard": "no data given",
        "gpqa": "no data given",
        "musr": "no usable row",
        "mmlu_pro": "no data given",
        "ifeval": "no data given",
    }
    assert [task["n"] for task in found["tasks"].values()] == [1, 1, 1]


def test_generation_cap_keeps_room_for_the_prompt() -> None:
    settings = LeaderboardSettings(max_gen_toks={"ifeval": 300})
    assert settings.generation_cap(2048, "ifeval", 1280) == 300
    assert settings.generation_cap(400, "ifeval", 1280) == 200
    assert settings.generation_cap(2048, "math_hard", 1024) == 1024
    assert settings.generation_cap(4096, "math_hard", 1024) == 1024
    assert LeaderboardSettings(max_gen_toks=64).generation_cap(8, "math_hard", 1024) == 4


def test_nothing_is_printed_and_no_generator_is_moved(
    model_dir: Path,
    data: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    evaluate_module._prepared.clear()
    state, torch_state = random.getstate(), torch.get_rng_state()
    seen: list[tuple[int, int, str]] = []
    evaluate_leaderboard(
        model_dir, data, SETTINGS, tmp_path, progress=lambda *event: seen.append(event)
    )
    printed = capfd.readouterr()
    assert (printed.out, printed.err, caplog.messages) == ("", "", [])
    assert random.getstate() == state
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert {what for _, _, what in seen} == {"scoring choices", "generating"}
    assert all(0 < done <= total for done, total, _ in seen)


def test_user_errors(model_dir: Path, data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a readable causal model"):
        evaluate_leaderboard(tmp_path, data, SETTINGS, tmp_path)
    with pytest.raises(UserError, match="Unknown benchmark 'mmlu'"):
        evaluate_leaderboard(model_dir, {"mmlu": None}, SETTINGS, tmp_path)
    with pytest.raises(UserError, match="No leaderboard benchmark has rows"):
        evaluate_leaderboard(model_dir, {}, SETTINGS, tmp_path)
    for wrong in ({"max_length": 4096}, {"max_length": 3}, {"batch_size": 0}):
        with pytest.raises(UserError, match="must"):
            evaluate_leaderboard(model_dir, data, LeaderboardSettings(**wrong), tmp_path)
    assert not list(tmp_path.glob("leaderboard*"))


REAL = os.environ.get("SPARSEPO_SHARED_DATA")


@pytest.mark.skipif(not REAL, reason="SPARSEPO_SHARED_DATA does not name the folder of real rows")
def test_real_rows_do_not_crash(model_dir: Path, tmp_path: Path) -> None:
    folder = Path(str(REAL))
    files = {
        "bbh": folder / "bbh.jsonl.gz",
        "ifeval": folder / "ifeval.jsonl.gz",
        "musr": folder / "musr_sample.jsonl.gz",
        "mmlu_pro": folder / "mmlu_pro_test_sample.jsonl.gz",
    }
    settings = LeaderboardSettings(limit=4, max_length=512, max_gen_toks=8)
    found = evaluate_leaderboard(model_dir, files, settings, tmp_path)
    assert {entry["benchmark"] for entry in found["missing"]} == {"math_hard", "gpqa"}
    assert found["columns"]["bbh"]["tasks"] == 24
    assert found["tasks"]["leaderboard_mmlu_pro"]["chance"] == 0.1
    assert found["tasks"]["leaderboard_bbh_ruin_names"]["available"] == 250
    assert found["tasks"]["leaderboard_ifeval"]["available"] == 541
