"""bigcode-evaluation-harness' published conventions, on hand-made rows and answers.

Expected texts are written out here by hand from its description of the tasks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsepo.errors import UserError
from tasks.code.conventions import conventions, get_convention
from tasks.code.conventions.base import STOP_SEQUENCES, cut_at_stop
from tasks.code.problems import Problem, read_problems
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows


@pytest.fixture
def problems(tmp_path: Path) -> list[Problem]:
    rows = [*HUMANEVAL, *MBPP, *PLAIN]
    return read_problems(write_rows(tmp_path / "rows.jsonl", rows))


def test_humaneval_prompts(problems: list[Problem]) -> None:
    first, second = problems[:2]
    stripped = get_convention("bigcode", problems)
    assert stripped.prompt(first) == (
        'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """ Sum.\n    """'
    )
    assert stripped.prompt(second).startswith("def half")
    whole = get_convention("bigcode-unstripped", problems)
    assert whole.prompt(second) == HUMANEVAL[1]["prompt"]


def test_mbpp_prompts_show_the_first_test(problems: list[Problem]) -> None:
    prompt = get_convention("bigcode", problems).prompt(problems[2])
    assert prompt == '"""\nWrite a function to triple a number.\nassert triple(2) == 6\n"""\n'


def test_programs(problems: list[Problem]) -> None:
    bigcode = get_convention("bigcode", problems)
    answer = "\n    return sum(xs)\n\n\ndef other():\n    pass\n"
    assert bigcode.candidate(problems[0], answer) == (
        'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """ Sum.\n    """'
        "\n    return sum(xs)\n\n"
    )
    assert bigcode.tests(problems[0]).strip().endswith("check(total)")
    answer = "def triple(n):\n    return 3 * n\n\nassert triple(1) == 3\n"
    assert bigcode.candidate(problems[2], answer) == (
        '"""\nWrite a function to triple a number.\nassert triple(2) == 6\n"""\n'
        "def triple(n):\n    return 3 * n\n"
    )


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (
            "humaneval",
            ["\nclass A:", "\ndef g", "\n# more", "\n@x", "\nprint(1)", "\nif x", "\n```"],
        ),
        ("humaneval", ["<file_sep>"]),
        (
            "mbpp",
            ["\nclass A:", "\nassert x", '\n"""', "\nprint(1)", "\nif x", "\n<|/x|>", "\n```"],
        ),
    ],
)
def test_answers_end_before_a_stop_sequence(kind: str, ends: list[str]) -> None:
    stops = STOP_SEQUENCES[kind]  # type: ignore[index]
    body = "\n    if xs:\n        print(xs)  # not at a line's start\n    return 1"
    for end in ends:
        assert cut_at_stop(body + end + "\nclass B", stops) == body
    assert cut_at_stop(body, stops) == body
    assert cut_at_stop("", stops) == ""


def test_what_differs_between_the_tasks() -> None:
    assert cut_at_stop("def f():\n    pass\ndef g", STOP_SEQUENCES["mbpp"]).endswith("def g")
    assert cut_at_stop("x\nassert y", STOP_SEQUENCES["humaneval"]) == "x\nassert y"


def test_the_earliest_stop_counts() -> None:
    assert cut_at_stop("a\nif b\nclass c", ("\nclass", "\nif")) == "a"


def test_as_given_cuts_nothing(problems: list[Problem]) -> None:
    given = get_convention("as-given", problems)
    answer = "    return 0\n\nprint(1)\n"
    assert given.parts(problems[0], answer) == (HUMANEVAL[0]["prompt"], answer)
    assert given.parts(problems[2], answer) == ("", answer)
    assert given.parts(problems[4], answer) == ("def add(a, b):\n", answer)
    assert given.parts(problems[5], answer) == ("", answer)
    assert given.stops(problems[0]) == ()


def test_answers_after_a_line_end_are_not_for_stripped_prompts(problems: list[Problem]) -> None:
    first = problems[0]
    bigcode = get_convention("bigcode", problems)
    mistake = bigcode.mistake([first, first], ["    return 1", ""])
    assert mistake is not None
    assert "bigcode-unstripped" in mistake
    assert bigcode.mistake([first, first], ["    return 1", "\n    return 1"]) is None
    assert get_convention("bigcode-unstripped", problems).mistake([first], ["    return 1"]) is None
    assert get_convention("as-given", problems).mistake([first], ["    return 1"]) is None


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"Unknown convention 'bigcod'\. Did you mean 'bigcode'"):
        get_convention("bigcod", [])
    assert set(conventions()) == {
        "as-given", "bigcode", "bigcode-unstripped", "bigcode_eval", "chat"
    }  # fmt: skip


def test_whole_programs(problems: list[Problem]) -> None:
    """As given they run as they are; BigCode's are cut after their prompt, stripped or not."""
    body = "    return sum(xs)\n"
    whole = HUMANEVAL[0]["prompt"] + body
    tail = "\n\ndef other():\n    pass\n"
    assert get_convention("as-given", problems).whole_parts(problems[0], whole) == ("", whole)
    for name in ("bigcode", "bigcode-unstripped"):
        bigcode = get_convention(name, problems)
        before, answer = bigcode.whole_parts(problems[0], whole.rstrip() + tail)
        assert before + answer == whole.rstrip() + "\n"
        assert before.endswith('"""')
        stripped = HUMANEVAL[1]["prompt"].strip() + "\n    return n / 4\n"
        assert "".join(bigcode.whole_parts(problems[1], stripped)) == stripped
        assert bigcode.whole_parts(problems[0], "x = 1" + tail) == ("", "x = 1" + tail)
    mbpp = get_convention("bigcode", problems)
    program = mbpp.prompt(problems[2]) + "def triple(n):\n    return 3 * n\n\nassert triple(1)\n"
    assert (
        "".join(mbpp.whole_parts(problems[2], program))
        == program.partition("\nassert triple(1)")[0]
    )
