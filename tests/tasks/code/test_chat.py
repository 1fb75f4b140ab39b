"""Code is taken out of chat models' answers, and what it is run after."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.code.conventions import get_convention
from tasks.code.conventions.chat import extract_code, fenced_blocks, has_fence
from tasks.code.problems import Problem, read_problems
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows

CODE = "def add(a, b):\n    return a + b\n"
OTHER = "def sub(a, b):\n    return a - b\n"

ANSWERS = {
    "prose around": f"Here is the code:\n\n```python\n{CODE}```\n\nIt adds two numbers.",
    "py": f"```py\n{CODE}```",
    "capitals": f"```Python\n{CODE}```",
    "no language": f"Sure!\n```\n{CODE}```\nDone.",
    "tildes": f"~~~python\n{CODE}~~~\nDone.",
    "longer fence": f"````python\n{CODE}````\nDone.",
    "after prose on its line": f"Sure, here: ```python\n{CODE}```",
    "not closed": f"Here is the code:\n```python\n{CODE}",
    "opened by the prompt": f"{CODE}```\n\nThis adds two numbers.\n\n```python\nadd(1, 2)\n```",
    "in a list": "1. Write it.\n\n" + textwrap.indent(f"```python\n{CODE}```", "   "),
    "indented in its fence": "```python\n" + textwrap.indent(CODE, "    ") + "```",
    "carriage returns": f"Here:\n\n```python\n{CODE}```\nDone.".replace("\n", "\r\n"),
    "a shell before": f"```bash\npip install numpy\n```\nand\n```python\n{CODE}```",
    "an example before": f"```python\nadd(1, 2)\n```\nneeds\n```python\n{CODE}```",
    "two answers": f"```python\n{CODE}```\nor\n```python\ndef add(a, b):\n    return b\n```",
    "thoughts": f"<think>\n```python\ndef add(a, b): pass\n```\n</think>\n```python\n{CODE}```",
    "no fence": f"Here is the code:\n\n{CODE}\nThis function adds two numbers.",
    "no fence, code first": f"{CODE}\nThis function adds, as you asked.\n- It is quick.",
    "nothing but code": CODE,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_one_program_in_many_answers(name: str) -> None:
    assert extract_code(ANSWERS[name], ("add",)).rstrip() == CODE.rstrip()


def test_definitions_in_earlier_blocks_are_kept() -> None:
    answer = f"```python\nimport os\n```\n```python\n{OTHER}```\n```python\n{CODE}```"
    assert extract_code(answer, ("add",)) == f"import os\n\n{OTHER}\n{CODE}"


def test_without_known_names_the_first_definition_counts() -> None:
    answer = f"```python\nprint(1)\n```\n```python\n{CODE}```"
    assert extract_code(answer, ()) == CODE


def test_a_name_may_be_assigned() -> None:
    answer = "```python\nx = 1\n```\n```python\nadd = lambda a, b: a + b\n```"
    assert extract_code(answer, ("add",)) == "add = lambda a, b: a + b\n"


def test_the_first_block_counts_where_none_defines_the_name() -> None:
    assert extract_code(f"```python\n{OTHER}```\n```python\nx\n```", ("add",)) == OTHER
    body = "    return a + b\n"
    assert extract_code(f"Complete it so:\n```python\n{body}```", ("add",)) == body


def test_code_in_prose_ends_before_the_next_line_of_prose_but_not_within_a_docstring() -> None:
    code = (
        'def add(a, b):\n    """Add\ntwo numbers.\n    """\n    return a + b\n\n\nx = [\n    1\n]\n'
    )
    assert extract_code(f"Sure.\n{code}\nThat is all.", ("add",)).rstrip() == code.rstrip()


def test_constants_before_a_definition_belong_to_it() -> None:
    code = f"MAX = 3\nMIN = 1\n{CODE}"
    assert extract_code(f"It is so:\n\n{code}\nDone.", ("add",)).rstrip() == code.rstrip()


@pytest.mark.parametrize("text", ["", "I cannot help with that.", "```", "~~~\n~~~", "\n\n"])
def test_answers_without_code_give_no_program(text: str) -> None:
    assert "def" not in extract_code(text, ("add",))


@given(st.text(alphabet="`~ \npyadef():#<think/>", max_size=80))
def test_any_text_gives_text(text: str) -> None:
    code = extract_code(text, ("add",))
    assert set(code) <= {*text, "\n"}
    before, blocks = fenced_blocks(text)
    assert blocks or before == text


@given(st.lists(st.sampled_from(["x = 1", "    y = 2", "", "# note", "print('~')"]), max_size=6))
def test_a_fenced_block_holds_its_lines(lines: list[str]) -> None:
    code = "".join(line + "\n" for line in lines)
    _, (block,) = fenced_blocks(f"a\n```python\n{code}```\nb")
    assert block.code == code


def test_fences_are_found() -> None:
    assert all(has_fence(ANSWERS[name]) for name in ANSWERS if "```\n" in ANSWERS[name])
    assert not has_fence(CODE)
    assert not has_fence("    x = '```'\n")


# --- what runs ----------------------------------------------------------------------------------


@pytest.fixture
def problems(tmp_path: Path) -> list[Problem]:
    rows = [*HUMANEVAL, *MBPP, *PLAIN]
    return read_problems(write_rows(tmp_path / "rows.jsonl", rows))


def test_a_whole_program_runs_after_the_imports_and_helpers_of_its_prompt(
    problems: list[Problem],
) -> None:
    chat = get_convention("chat", problems)
    total = "def total(xs: List[int]) -> int:\n    return sum(xs)\n"
    assert chat.parts(problems[0], f"```python\n{total}```") == (
        "from typing import List\n\n\n",
        total,
    )
    quarter = "def quarter(n):\n    return half(half(n))\n"
    before, code = chat.parts(problems[1], f"```python\n{quarter}```")
    assert code == quarter
    assert before.startswith("def half(n: int)")
    assert "def quarter" not in before
    future = f"from __future__ import annotations\n{total}"
    assert chat.parts(problems[0], f"```python\n{future}```") == ("", future)
    triple = "def triple(n):\n    return 3 * n\n"
    assert chat.parts(problems[2], f"```python\n{triple}```") == ("", triple)


@pytest.mark.parametrize("body", ["    return sum(xs)\n", "return sum(xs)\n"])
def test_other_code_continues_the_prompt(problems: list[Problem], body: str) -> None:
    chat = get_convention("chat", problems)
    expected = (HUMANEVAL[0]["prompt"], "    return sum(xs)\n")
    assert chat.parts(problems[0], f"Complete it:\n```python\n{body}```") == expected
    assert chat.parts(problems[0], "    return sum(xs)\n") == expected


def test_whole_programs_run_alone(problems: list[Problem]) -> None:
    chat = get_convention("chat", problems)
    assert chat.whole_parts(problems[0], f"```python\n{CODE}```") == ("", CODE)
    assert chat.prompt(problems[0]) == HUMANEVAL[0]["prompt"]
    assert chat.stops(problems[0]) == ()
