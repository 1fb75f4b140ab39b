"""Stage functions of the code experiments on small artefacts, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.domains.code.work.chosen import keep_chosen
from harness.domains.code.work.judge import judge_samples
from harness.domains.code.work.pairs import answers_file, make_pairs
from harness.domains.code.work.problems import make_problems
from harness.domains.code.work.tuning import choose_beta
from harness.domains.code.work.verdicts import read_verdicts, write_verdicts
from harness.domains.common.work.files import read_pairs_file
from harness.graph.files import walk_files
from harness.graph.stages import StageContext
from harness.graph.store import RECORD
from sparsepo.errors import UserError
from tasks.code.judging import Result
from tasks.code.world import CodeWorldConfig, write_world

SETS = ("humaneval", "mbpp_test", "mbpp_train", "mbpp_validation")


def context(
    work: Path,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path] | None = None,
    files: Mapping[str, Path] | None = None,
) -> StageContext:
    work.mkdir(parents=True, exist_ok=True)
    return StageContext("t", config, inputs or {}, files or {}, work, lambda *a: None, 1)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("problems")
    write_world(
        CodeWorldConfig(
            documents=1, humaneval_problems=3, mbpp_test=4, mbpp_train=5, mbpp_validation=2
        ),
        folder / "world",
    )
    sources = {"humaneval": "world", "mbpp": "world"}
    work = folder / "problems"
    make_problems(
        context(
            work, {"sources": sources, "sets": SETS, "limit": None}, {"world": folder / "world"}
        )
    )
    return work


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_mbpp_is_split_by_its_ids(problems: Path) -> None:
    counts = json.loads((problems / "report.json").read_text())
    assert counts == dict(zip(SETS, (3, 4, 5, 2), strict=True))
    assert all(11 <= row["task_id"] <= 510 for row in rows(problems / "mbpp_test.jsonl"))
    assert all(511 <= row["task_id"] <= 600 for row in rows(problems / "mbpp_validation.jsonl"))


def test_files_are_read_and_capped(problems: Path, tmp_path: Path) -> None:
    whole = [row for name in SETS[1:] for row in rows(problems / f"{name}.jsonl")]
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole))
    files = {"humaneval": problems / "humaneval.jsonl", "mbpp": tmp_path / "mbpp.jsonl"}
    config = {"sources": dict.fromkeys(("humaneval", "mbpp"), "file"), "sets": SETS, "limit": 2}
    make_problems(context(tmp_path / "work", config, files=files))
    counts = json.loads((tmp_path / "work" / "report.json").read_text())
    assert set(counts.values()) == {2}


def test_a_file_without_a_split_or_of_another_schema_is_an_error(
    problems: Path, tmp_path: Path
) -> None:
    config = {"sources": dict.fromkeys(("humaneval", "mbpp"), "file"), "sets": SETS, "limit": None}
    files = {"humaneval": problems / "humaneval.jsonl", "mbpp": problems / "mbpp_test.jsonl"}
    with pytest.raises(UserError, match="no problems for mbpp_train"):
        make_problems(context(tmp_path, config, files=files))
    # Where training problems are not sampled, a test set alone will do.
    make_problems(context(tmp_path, {**config, "sets": SETS[:2]}, files=files))
    assert not (tmp_path / "mbpp_train.jsonl").exists()
    files = {"humaneval": problems / "mbpp_test.jsonl", "mbpp": problems / "mbpp_test.jsonl"}
    with pytest.raises(UserError, match=r"mbpp_test\.jsonl is not in humaneval's schema"):
        make_problems(context(tmp_path, config, files=files))


def test_all_splits_of_the_hub_are_read(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, str]] = []

    def hub(name: str, split: str) -> list[dict[str, Any]]:
        read.append((name, split))
        benchmark = "humaneval" if name.endswith("humaneval") else f"mbpp_{split}"
        file = problems / f"{benchmark}.jsonl"
        return rows(file) if file.is_file() else []

    monkeypatch.setattr("harness.domains.code.work.problems.read_rows", hub)
    config = {"sources": dict.fromkeys(("humaneval", "mbpp"), "hub"), "sets": SETS, "limit": None}
    make_problems(context(tmp_path, config))
    assert [split for _, split in read] == ["test", "train", "validation", "test", "prompt"]
    names = {f"{name}.jsonl" for name in SETS} | {"report.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in SETS:
        assert rows(tmp_path / f"{name}.jsonl") == rows(problems / f"{name}.jsonl")


def sampled(problems: Path, folder: Path) -> Path:
    """Of each training problem three right programs, one wrong, one that never ends."""
    folder.mkdir()
    for name in ("mbpp_train", "mbpp_validation"):
        with (folder / f"{name}.jsonl").open("w") as stream:
            for row in rows(problems / f"{name}.jsonl"):
                head = row["code"].splitlines()[0]
                for completion in (
                    row["code"],
                    row["code"],
                    row["code"] + "\nassert False\n",
                    f"{head}\n    return None\n",
                    f"{head}\n    raise MemoryError\n",
                ):
                    line = {"task_id": row["task_id"], "completion": completion}
                    stream.write(json.dumps(line) + "\n")
    return folder


def test_samples_are_run_and_become_pairs(problems: Path, tmp_path: Path) -> None:
    inputs = {"problems": problems, "samples": sampled(problems, tmp_path / "samples")}
    config = {
        "benchmarks": ["mbpp_train", "mbpp_validation"],
        "convention": "bigcode",
        "programs_at_once": 1,
    }
    judge_samples(context(tmp_path / "verdicts", config, inputs))
    report = json.loads((tmp_path / "verdicts" / "report.json").read_text())
    assert report["tier"]
    train = report["benchmarks"]["mbpp_train"]
    # What follows a stop sequence is cut off before it is run.
    assert train["verdicts"] == {"passed": 15, "failed": 5, "memory": 5}
    assert set(map(tuple, train["problems"].values())) == {(5, 3)}
    assert train["programs"] < 25

    pairs = {"epochs": 2, "seed": 42, "validation_seed": 42, "convention": "bigcode"}
    inputs["verdicts"] = tmp_path / "verdicts"
    make_pairs(context(tmp_path / "pairs", pairs, inputs))
    made = read_pairs_file(tmp_path / "pairs" / "train.jsonl")
    assert len(made) == 2 * 5
    right = {row["code"] for row in rows(problems / "mbpp_train.jsonl")}
    assert {str(pair.chosen).strip() for pair in made} <= {text.strip() for text in right}
    assert len(read_pairs_file(tmp_path / "pairs" / "validation.jsonl")) == 2
    selection = json.loads((tmp_path / "pairs" / "report.json").read_text())
    assert selection["train"]["kept"] == 5

    make_pairs(context(tmp_path / "other", {**pairs, "seed": 43}, inputs))
    assert read_pairs_file(tmp_path / "other" / "train.jsonl") != made
    fixed = [(tmp_path / name / "validation.jsonl").read_bytes() for name in ("pairs", "other")]
    assert fixed[0] == fixed[1]


def test_a_cut_off_file_of_samples_is_an_error(problems: Path, tmp_path: Path) -> None:
    samples = sampled(problems, tmp_path / "samples")
    path = samples / "mbpp_train.jsonl"
    path.write_text(path.read_text()[:-30])
    config = {"benchmarks": ["mbpp_train"], "convention": "bigcode", "programs_at_once": 1}
    with pytest.raises(UserError, match=r"mbpp_train\.jsonl"):
        judge_samples(context(tmp_path / "v", config, {"problems": problems, "samples": samples}))


def test_verdicts_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = [
        Result("failed", "x" * 500 + "\u2028", 1.0, 3.0),
        Result("passed", "", 0.1, 3.0),
        Result("failed", "é\n", 0.1, 3.0, suspect=True),
    ]
    write_verdicts(results, tmp_path / "v.jsonl")
    read = read_verdicts(tmp_path / "v.jsonl")
    assert [(r.verdict, r.suspect) for r in read] == [(r.verdict, r.suspect) for r in results]
    assert [len(r.detail) for r in read] == [200, 0, 2]


def test_beta_is_chosen_by_the_reports(tmp_path: Path) -> None:
    inputs = {}
    for name, passed in (("0.2", [1, 0]), ("0.8", [1, 1])):
        inputs[name] = tmp_path / name
        inputs[name].mkdir()
        problems = {str(number): [10, count] for number, count in enumerate(passed)}
        (inputs[name] / "report.json").write_text(
            json.dumps({"benchmarks": {"humaneval": {"problems": problems}}})
        )
    config = {"k": 10, "benchmark": "humaneval", "default": 0.2}
    choose_beta(context(tmp_path / "work", config, inputs))
    tuned = json.loads((tmp_path / "work" / "tuned.json").read_text())
    assert tuned["hyper_parameters"] == {"beta": 0.8}
    assert tuned["scores"]["0.2"] == {"pass@1": 0.05, "pass@k": 0.5}


@pytest.mark.parametrize("links", [True, False])
def test_the_run_of_the_chosen_beta_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    inputs = {"tuned": tmp_path / "tuned"}
    inputs["tuned"].mkdir()
    chosen = json.dumps({"hyper_parameters": {"beta": 10.0}})
    (inputs["tuned"] / "tuned.json").write_text(chosen)
    for name in ("0.4", "10"):
        inputs[name] = tmp_path / name
        (inputs[name] / "model").mkdir(parents=True)
        (inputs[name] / "model" / "weights").write_text(name)
        (inputs[name] / "training.json").write_text(name)
        (inputs[name] / RECORD).write_text("of the other stage")
    keep_chosen(context(tmp_path / "work", {}, inputs))
    files = {p.relative_to(tmp_path / "work").as_posix(): p for p in walk_files(tmp_path / "work")}
    assert {name: path.read_text() for name, path in files.items()} == {
        "model/weights": "10",
        "training.json": "10",
    }


def test_the_authors_folder_may_call_its_second_split_test(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "merged.json").write_text("[]")
    assert answers_file(tmp_path, "train") == tmp_path / "train" / "merged.json"
    assert answers_file(tmp_path, "validation") == tmp_path / "test" / "merged.json"
    (tmp_path / "test" / "merged.json").unlink()
    with pytest.raises(UserError, match=r"has no validation/merged\.json"):
        answers_file(tmp_path, "validation")
