from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparsepo.errors import UserError
from tasks.code.problems import defined_names, is_code, mbpp_test_split, read_problems
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows


def run(problem: Any, completion: str) -> None:
    """Run completion and tests in one namespace."""
    names: dict[str, object] = {}
    exec(problem.prefix + completion + "\n" + problem.tests, names)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize(
    ("rows", "kind"), [(HUMANEVAL, "humaneval"), (MBPP, "mbpp"), (PLAIN, "plain")]
)
def test_schemas_are_told_by_their_columns(
    tmp_path: Path, name: str, rows: list[dict[str, Any]], kind: str
) -> None:
    problems = read_problems(write_rows(tmp_path / name, rows))
    assert [problem.kind for problem in problems] == [kind] * len(rows)
    assert [problem.task_id for problem in problems] == [row["task_id"] for row in rows]
    for problem in problems:
        if problem.reference is not None:
            run(problem, problem.reference)


def test_humanevals_parts(tmp_path: Path) -> None:
    first = read_problems(write_rows(tmp_path / "rows.jsonl", HUMANEVAL))[0]
    assert first.prompt == first.prefix == HUMANEVAL[0]["prompt"]
    assert first.tests.endswith("\ncheck(total)\n")
    assert first.entry_points == ("total",)


def test_mbpps_set_up_code_runs_after_the_candidates(tmp_path: Path) -> None:
    first, tree = read_problems(write_rows(tmp_path / "rows.jsonl", MBPP))
    assert first.tests == "assert triple(2) == 6\nassert triple(0) == 0\n"
    assert first.prefix == ""
    assert first.entry_points == ("triple",)
    assert tree.tests.startswith("root = Node()")
    assert tree.entry_points == ("Node", "count")
    with pytest.raises(AssertionError):
        run(tree, MBPP[1]["code"].replace("1 +", "0 +"))


def test_sanitized_mbpp(tmp_path: Path) -> None:
    row = {
        "source_file": "x",
        "task_id": 2,
        "prompt": "Write a function.",
        "code": "def root(n):\n    return n ** 0.5",
        "test_imports": ["import math"],
        "test_list": ["assert math.isclose(root(4), 2)"],
    }
    (problem,) = read_problems(write_rows(tmp_path / "rows.jsonl", [row]))
    assert problem.tests.startswith("import math\n")
    assert problem.prompt == "Write a function."
    run(problem, row["code"])


def test_a_plain_prompt_is_continued_only_if_it_is_code(tmp_path: Path) -> None:
    add, neg = read_problems(write_rows(tmp_path / "rows.jsonl", PLAIN))
    assert add.prefix == "def add(a, b):\n"
    assert add.entry_points == ("add",)
    assert neg.prefix == ""
    run(neg, "def neg(x):\n    return -x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# a comment\n",
        "def f(x):\n",
        "def f(x):\n    return ",
        'def f(x):\n    """ Begun',
        'def f(x):\n    """ Ended """\n',
        "import os\n\nxs = [",
        "class A:\n    def f(self):\n",
    ],
)
def test_code_and_its_beginnings(text: str) -> None:
    assert is_code(text)


@pytest.mark.parametrize(
    "text", ["Write a function that adds.", "Add two numbers:", "def f(x:\n    return )", "\0"]
)
def test_what_is_no_code(text: str) -> None:
    assert not is_code(text)


def test_names_that_code_defines() -> None:
    text = (
        "import x\ndef f(a):\n    def inner(): pass\nclass A: pass\nasync def g(): pass\ndef f(): ("
    )
    assert defined_names(text) == ("f", "A", "g")


def test_mbpps_test_split_has_500_problems(tmp_path: Path) -> None:
    rows = [MBPP[0] | {"task_id": number} for number in range(974, 0, -1)]
    problems = read_problems(write_rows(tmp_path / "rows.jsonl.gz", rows))
    split = mbpp_test_split(problems)
    assert [problem.task_id for problem in split] == list(range(11, 511))
    with pytest.raises(UserError, match="1 of these 500 problems are missing, such as 100"):
        mbpp_test_split([problem for problem in problems if problem.task_id != 100])


MISTAKES = [
    ([], "contains no problems"),
    ([{"task_id": "a", "prompt": "x"}], "no column with tests"),
    ([{"prompt": "x", "tests": "assert x"}], "no column 'task_id'; the columns are prompt, tests"),
    ([PLAIN[0] | {"task_id": 1.5}], "text or a whole number, not a number"),
    ([PLAIN[0] | {"task_id": ""}], "text or a whole number, not empty"),
    ([PLAIN[0] | {"task_id": True}], "not true or false"),
    ([PLAIN[0], PLAIN[0]], "row 2: the problem add occurs twice"),
    ([MBPP[0], MBPP[0] | {"task_id": "11"}], "row 2: the problem 11 occurs twice"),
    ([PLAIN[0] | {"tests": " \n"}], "'tests' is empty"),
    ([PLAIN[0] | {"tests": []}], "'tests' is empty"),
    ([PLAIN[0] | {"tests": [1]}], "'tests' should be a list of statements"),
    ([PLAIN[0] | {"tests": None}], "'tests' should be a list of statements"),
    ([MBPP[0] | {"test_list": []}], "'test_list' is empty"),
    ([MBPP[0] | {"test_list": "assert x"}], "'test_list' should be a list of statements"),
    ([HUMANEVAL[0] | {"prompt": None}], "'prompt' should be text, not null"),
    ([HUMANEVAL[0] | {"entry_point": "a b"}], "'entry_point' should be a function's name"),
    ([{"task_id": "a", "prompt": "x", "test": "y"}], "no column 'entry_point'"),
]


@pytest.mark.parametrize(("rows", "message"), MISTAKES)
def test_mistakes(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError) as caught:
        read_problems(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    whole = write_rows(tmp_path / "rows.jsonl.gz", HUMANEVAL).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.jsonl").write_text(json.dumps(PLAIN[0]) + "\n{\n")
    for name, message in [
        ("cut.jsonl.gz", "truncated gzip"),
        ("bad.jsonl", "line 2 is not valid JSON"),
        ("nothing.jsonl", "does not exist"),
        (".", "not a regular file"),
        ("bad.jsonl/x", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            read_problems(tmp_path / name)
