from __future__ import annotations

import json
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
        ([], "contains no samples"),
        ([{"task_id": "add"}], "row 1: there is no column 'completion'; the columns are task_id"),
        ([{"completion": "x"}], "no column 'task_id'"),
        ([{"task_id": "ad", "completion": "x"}], "no problem 'ad'. Did you mean 'add'?"),
        ([{"task_id": "add", "completion": None}], "'completion' should be text, not null"),
        ([{"task_id": "add", "completion": "x"}], "no sample of the problem neg;"),
        ([{"task_id": "add", "completion": 5}], "'completion' should be text or a list of texts"),
        ([{"task_id": "add", "completions": []}], "'completions' is an empty list; give at least"),
        ([{"task_id": "add", "completion": ["x", None]}], "item 1 should be text, not null"),
        (
            [{"task_id": "add", "completion": "x", "solution": "y"}],
            "row 1 has both 'completion' and 'solution'; keep one of them.",
        ),
        (
            [{"task_id": "add", "completion": "x"}, {"task_id": "neg", "solution": "y"}],
            "row 2 has 'solution', but earlier rows have 'completion'; give a file of one form.",
        ),
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


# --- the forms that other tools write -----------------------------------------------------------

ADD, NEG = "def add(a, b):\n    return a + b\n", "def neg(x):\n    return -x\n"


def of(tmp_path: Path, content: Any, rows: list[dict[str, Any]] = PLAIN) -> SampleSet:
    """Read samples that are written as one JSON value."""
    path = tmp_path / "generations.json"
    path.write_text(json.dumps(content))
    return read_samples(path, problems(tmp_path, rows))


def facts(found: SampleSet) -> list[tuple[Any, int, str, bool]]:
    return [(s.problem.task_id, s.number, s.completion, s.whole) for s in found.samples]


def test_evalplus_solutions_are_whole_programs(tmp_path: Path) -> None:
    rows = [{"task_id": "add", "solution": ADD, "completion": None}]
    rows.append({"task_id": "neg", "solution": NEG, "_identifier": "neg (1)"})
    found = of(tmp_path, rows)
    assert facts(found) == [("add", 0, ADD, True), ("neg", 0, NEG, True)]
    assert found.form == "whole programs under 'solution'"


def test_evalplus_names_of_mbpps_problems_are_known(tmp_path: Path) -> None:
    rows = [{"task_id": "Mbpp/11", "solution": "x"}, {"task_id": "Mbpp/367", "solution": "y"}]
    assert [fact[0] for fact in facts(of(tmp_path, rows, MBPP))] == [11, 367]
    with pytest.raises(UserError, match="there is no problem 'Mbpp/12'"):
        of(tmp_path, [{"task_id": "Mbpp/12", "solution": "x"}], MBPP)


@pytest.mark.parametrize(
    ("column", "whole"),
    [("completion", False), ("completions", False), ("solution", True), ("solutions", True)],
)
def test_several_answers_in_one_row(tmp_path: Path, column: str, whole: bool) -> None:
    rows = [{"task_id": "neg", column: ["a", "b"]}, {"task_id": "add", column: ["c"]}]
    rows.append({"task_id": "neg", column: ["d"]})
    found = of(tmp_path, rows)
    assert facts(found) == [
        ("neg", 0, "a", whole), ("neg", 1, "b", whole), ("add", 0, "c", whole),
        ("neg", 2, "d", whole),
    ]  # fmt: skip
    assert found.form.endswith(f"under '{column}', several in a row")


def test_bigcodes_generations_are_in_the_problems_order(tmp_path: Path) -> None:
    found = of(tmp_path, [[ADD, ADD + "\n"], [NEG]])
    assert facts(found) == [
        ("add", 0, ADD, True), ("add", 1, ADD + "\n", True), ("neg", 0, NEG, True)
    ]  # fmt: skip
    assert found.form == "BigCode's generations, 2 lists of whole programs in the problems' order"


def test_generations_may_be_completions(tmp_path: Path) -> None:
    """Whole programs begin with their prompt, stripped as BigCode strips it or not."""
    bodies = [[row["canonical_solution"]] for row in HUMANEVAL]
    assert {fact[3] for fact in facts(of(tmp_path, bodies, HUMANEVAL))} == {False}
    for strip in (str, str.strip):
        whole = [[strip(row["prompt"]) + "\n" + row["canonical_solution"]] for row in HUMANEVAL]
        assert {fact[3] for fact in facts(of(tmp_path, whole, HUMANEVAL))} == {True}


def test_generations_for_mbpps_test_split_are_in_the_order_of_its_ids(tmp_path: Path) -> None:
    rows = [MBPP[0] | {"task_id": number} for number in range(520, 0, -1)]
    found = of(tmp_path, [[str(number)] for number in range(11, 511)], rows)
    assert all(s.completion == str(s.problem.task_id) for s in found.samples)
    assert (len(found.problems), found.left_out) == (500, 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[ADD]], "has 1 lists for 2 problems; give the problems that were asked"),
        ([[ADD], [NEG], [NEG]], "has 3 lists for 2 problems"),
        ([[ADD], []], "item 1 is an empty list"),
        ([[ADD], [None]], "item 1, item 0 should be text, not null"),
        ([[ADD], NEG], "item 1 is text; samples are lists of programs throughout."),
        ([[ADD], {"task_id": "neg"}], "item 1 is an object; samples are lists of programs"),
        ([ADD, NEG], "item 0 is text; samples are objects with 'task_id' and 'completion'"),
        ([{"task_id": "add", "completion": "x"}, [NEG]], "item 1 is a list; samples are objects"),
        ([[ADD, "    return a + b"], [NEG]], "1 of 2 texts begin with their problem's prompt"),
    ],
)
def test_malformed_generations(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        of(tmp_path, content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_uneven_samples_and_carriage_returns_are_kept(tmp_path: Path) -> None:
    rows = [{"task_id": "add", "completion": "    return a + b\r\n"}] * 3
    rows.append({"task_id": "neg", "completion": "x"})
    found = of(tmp_path, rows)
    assert found.per_problem() == {"add": 3, "neg": 1}
    assert found.samples[0].completion == "    return a + b\r\n"
