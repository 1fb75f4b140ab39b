from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparsepo.errors import UserError
from tasks.code.judging import Result
from tasks.code.problems import Problem, read_problems
from tasks.code.samples import SampleSet, read_samples
from tasks.code.scores import score, usable_ks
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows


def problems(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Problem]:
    return read_problems(write_rows(tmp_path / "problems.jsonl", rows))


def samples(tmp_path: Path, rows: list[dict[str, Any]], ids: list[Any]) -> SampleSet:
    given = [{"task_id": task_id, "completion": str(i)} for i, task_id in enumerate(ids)]
    path = write_rows(tmp_path / "samples.jsonl", given)
    return read_samples(path, problems(tmp_path, rows))


def test_samples_keep_their_order_and_are_numbered_within_a_problem(tmp_path: Path) -> None:
    found = samples(tmp_path, PLAIN, ["neg", "add", "neg"])
    assert [(s.problem.task_id, s.number, s.completion) for s in found.samples] == [
        ("neg", 0, "0"),
        ("add", 0, "1"),
        ("neg", 1, "2"),
    ]
    assert found.per_problem() == {"neg": 2, "add": 1}
    assert found.left_out == 0


def test_mbpps_numbers_may_be_text(tmp_path: Path) -> None:
    found = samples(tmp_path, MBPP, ["11", 367])
    assert [sample.problem.task_id for sample in found.samples] == [11, 367]


def test_mbpps_other_splits_count_only_if_they_have_samples(tmp_path: Path) -> None:
    rows = [MBPP[0] | {"task_id": number} for number in range(1, 521)]
    test = list(range(11, 511))
    found = samples(tmp_path, rows, test)
    assert len(found.problems) == 500
    assert found.left_out == 20
    with pytest.raises(UserError, match="no sample of the problem 1 and 18 more"):
        samples(tmp_path, rows, [*test, 520])
    assert samples(tmp_path, rows, list(range(1, 521))).left_out == 0
    with pytest.raises(UserError, match="no sample of the problem 500; give"):
        samples(tmp_path, rows, [number for number in test if number != 500])


def test_part_of_mbpp_needs_all_its_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample of the problem 600"):
        samples(tmp_path, [MBPP[0], MBPP[0] | {"task_id": 600}], [11])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no samples"),
        ([{"task_id": "add"}], "row 1: there is no column 'completion'; the columns are task_id"),
        ([{"completion": "x"}], "no column 'task_id'"),
        ([{"task_id": "ad", "completion": "x"}], "no problem 'ad'. Did you mean 'add'?"),
        ([{"task_id": "add", "completion": None}], "'completion' should be text, not null"),
        ([{"task_id": "add", "completion": "x"}], "no sample of the problem neg;"),
    ],
)
def test_mistakes(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write_rows(tmp_path / "samples.jsonl", rows)
    with pytest.raises(UserError) as caught:
        read_samples(path, problems(tmp_path, PLAIN))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_of_k(tmp_path: Path) -> None:
    found = samples(tmp_path, PLAIN, ["neg"] * 12 + ["add"] * 10)
    assert usable_ks(found, None) == (1, 10)
    assert usable_ks(found, (10, 2)) == (2, 10)
    with pytest.raises(UserError, match="pass@11 needs 11 samples of each problem, but add has 10"):
        usable_ks(found, (1, 11))


def test_scores_are_means_over_problems(tmp_path: Path) -> None:
    """Problems weigh alike, however many samples they have."""
    found = samples(tmp_path, HUMANEVAL, ["HumanEval/0"] * 4 + ["HumanEval/1"] * 2)
    words = ["passed", "failed", "timeout", "unsupported", "passed", "passed"]
    results = [Result(word, "", 0.0, 3.0) for word in words]  # type: ignore[arg-type]
    one, two = score(found, results, (1, 2))
    assert (one.k, one.mean) == (1, (1 / 4 + 1) / 2)
    assert (two.k, two.mean) == (2, (1 / 2 + 1) / 2)
    assert 0.25 <= one.low <= one.mean <= one.high <= 1.0
    assert score(found, results, (1, 2)) == [one, two]
