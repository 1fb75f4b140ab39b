"""Programming problems with tests: HumanEval, MBPP and plain rows, each in its own schema.

| schema | recognised by | columns |
|---|---|---|
| HumanEval | `entry_point` | `task_id`, `prompt`, `test`, `entry_point`; `canonical_solution` |
| MBPP | `test_list` | `task_id`, `text`, `test_list`; `code`, `test_setup_code` |
| MBPP sanitized | `test_list` | the same with `prompt` and `test_imports` |
| plain | `tests` | `task_id`, `prompt`, `tests` (text or a list of them); `reference` |

Columns after the semicolon are optional; other columns are not read.
"""

from __future__ import annotations

import codeop
import re
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sparsepo.data.rows import Row, kind_of, read_rows
from sparsepo.errors import UserError

Kind = Literal["humaneval", "mbpp", "plain"]
TaskId = int | str

MBPP_TEST_IDS: Final = range(11, 511)
"""The ids of MBPP's test split, 500 problems; 1–10 are prompts, the others for training."""

_DEFINITION: Final = re.compile(r"^(?:async +)?(?:def|class) +(\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """A programming problem of any schema."""

    task_id: TaskId
    """The id in the file; MBPP's are numbers."""
    kind: Kind
    prompt: str
    """HumanEval's and plain rows' `prompt`, MBPP's description."""
    prefix: str
    """The code that a completion continues: HumanEval's prompt, a plain row's if it is code."""
    tests: str
    """Statements that run after the candidate's code and raise an exception if it is wrong."""
    row: Row
    """The row itself, for conventions that read other columns."""
    reference: str | None = None
    """A correct completion, which continues `prefix`."""
    entry_points: tuple[str, ...] = ()
    """Names under test, as far as known from the row; they are always the candidate's own."""


def read_problems(path: str | Path) -> list[Problem]:
    """Read a file of problems.

    Args:
        path: JSON Lines (gzip or not), a JSON list or Parquet; the columns determine the schema.

    Returns:
        The problems, in the file's order.

    Raises:
        UserError: the file is missing, damaged or empty, lacks a column, has a value of the wrong
            type, or contains a problem twice.
    """
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, row in enumerate(rows_of_file(path), start=1):
        where = f"{path}, row {number}"
        problem = _PARSERS[_schema(row, where)](row, where)
        if task_key(problem.task_id) in seen:
            name = printable(problem.task_id)
            raise UserError(f"{where}: the problem {name} occurs twice; remove one.")
        seen.add(task_key(problem.task_id))
        problems.append(problem)
    if not problems:
        raise UserError(f"{path} contains no problems; give a file with at least one.")
    return problems


def rows_of_file(path: str | Path) -> Iterable[Row]:
    """Yield the rows of a regular file; anything else is a `UserError`."""
    yield from read_rows(regular_file(path))


def regular_file(path: str | Path) -> Path:
    """Return the path of a regular file; anything else is a `UserError`."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = "does not exist" if missing else f"cannot be read: {error.strerror}"
        raise UserError(f"{path} {what}.") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a regular file; give a file of problems or samples.")
    return Path(path)


def task_key(task_id: TaskId) -> str:
    """Return the form in which ids are compared: 11 and "11" are the same problem."""
    return str(task_id)


def printable(text: object) -> str:
    """Return text of unknown origin as one line without control characters, for display."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text)
    )


def read_task_id(row: Row, where: str) -> TaskId:
    """Return a row's `task_id`.

    Raises:
        UserError: it is missing, empty, or neither text nor a whole number.
    """
    value = column(row, "task_id", where)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise UserError(f"{where}: 'task_id' should be text or a whole number, not {_kind(value)}.")
    return value


def read_text(row: Row, name: str, where: str) -> str:
    """Return the text in a column.

    Raises:
        UserError: the column is missing or contains anything else.
    """
    value = column(row, name, where)
    if not isinstance(value, str):
        raise UserError(f"{where}: '{name}' should be text, not {kind_of(value)}.")
    return value


def column(row: Row, name: str, where: str) -> object:
    """Return a column's value.

    Raises:
        UserError: the row does not have it.
    """
    if name not in row:
        columns = printable(", ".join(map(str, row))) or "none"
        raise UserError(f"{where}: there is no column '{name}'; the columns are {columns}.")
    return row[name]


def mbpp_test_split(problems: Iterable[Problem]) -> list[Problem]:
    """Return MBPP's test split, in the order of its ids, as BigCode evaluates it.

    Args:
        problems: problems of MBPP; those of other splits are skipped.

    Raises:
        UserError: one of the split's 500 problems is missing.
    """
    chosen = {
        int(problem.task_id): problem for problem in problems if in_mbpp_test_split(problem.task_id)
    }
    missing = [number for number in MBPP_TEST_IDS if number not in chosen]
    if missing:
        raise UserError(
            f"MBPP's test split is the ids 11 to 510; {len(missing)} of these "
            f"{len(MBPP_TEST_IDS)} problems are missing, such as {missing[0]}: give the whole set."
        )
    return [chosen[number] for number in MBPP_TEST_IDS]


def in_mbpp_test_split(task_id: TaskId) -> bool:
    """Return whether an id belongs to MBPP's test split, 11 to 510."""
    return str(task_id).isdecimal() and int(task_id) in MBPP_TEST_IDS


def is_code(text: str) -> bool:
    """Return whether text is Python, or the beginning of Python code that can be completed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            codeop.compile_command(text, "prompt", "exec")
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
            return False
    return True


def defined_names(text: str) -> tuple[str, ...]:
    """Return the functions and classes that code defines at its top level, in order.

    Args:
        text: Python or its beginning, which need not be valid, because names are found by line.
    """
    return tuple(dict.fromkeys(_DEFINITION.findall(text)))


def _schema(row: Row, where: str) -> Kind:
    if "test_list" in row:
        return "mbpp"
    if "tests" in row:
        return "plain"
    if "test" in row or "entry_point" in row:
        return "humaneval"
    raise UserError(
        f"{where}: no column with tests; HumanEval's rows have 'test' and 'entry_point', MBPP's "
        "'test_list', plain ones 'tests'."
    )


def _humaneval(row: Row, where: str) -> Problem:
    prompt = read_text(row, "prompt", where)
    test, entry_point = read_text(row, "test", where), read_text(row, "entry_point", where)
    if not entry_point.isidentifier():
        raise UserError(f"{where}: 'entry_point' should be a function's name.")
    return Problem(
        task_id=read_task_id(row, where),
        kind="humaneval",
        prompt=prompt,
        prefix=prompt,
        tests=f"{test}\ncheck({entry_point})\n",
        row=row,
        reference=_optional(row, "canonical_solution", where),
        entry_points=(entry_point,),
    )


def _mbpp(row: Row, where: str) -> Problem:
    # Set-up code runs after the candidate's code, because it creates objects of its classes.
    setup = _statements(row, "test_imports", where) if "test_imports" in row else []
    setup += [code] if (code := _optional(row, "test_setup_code", where)) else []
    tests = _statements(row, "test_list", where)
    if not tests:
        raise UserError(f"{where}: 'test_list' is empty; a problem needs a test.")
    reference = _optional(row, "code", where)
    return Problem(
        task_id=read_task_id(row, where),
        kind="mbpp",
        prompt=read_text(row, "text" if "text" in row else "prompt", where),
        prefix="",
        tests="\n".join([*setup, *tests, ""]),
        row=row,
        reference=reference,
        entry_points=_tested(defined_names(reference or ""), *setup, *tests),
    )


def _plain(row: Row, where: str) -> Problem:
    prompt = read_text(row, "prompt", where)
    given = row["tests"]
    tests = given if isinstance(given, str) else "\n".join(_statements(row, "tests", where))
    if not tests.strip():
        raise UserError(f"{where}: 'tests' is empty; a problem needs a test.")
    prefix = prompt if is_code(prompt) else ""
    reference = _optional(row, "reference", where)
    # The last definition of the prompt is the one to complete; earlier ones are helpers.
    names = (*defined_names(prefix)[-1:], *defined_names(reference or ""))
    return Problem(
        task_id=read_task_id(row, where),
        kind="plain",
        prompt=prompt,
        prefix=prefix,
        tests=tests if tests.endswith("\n") else tests + "\n",
        row=row,
        reference=reference,
        entry_points=_tested(names, tests),
    )


def _tested(names: Iterable[str], *tests: str) -> tuple[str, ...]:
    """Return the names that occur in the tests."""
    words = set(re.findall(r"\w+", "\n".join(tests)))
    return tuple(dict.fromkeys(name for name in names if name in words))


def _optional(row: Row, name: str, where: str) -> str | None:
    return None if row.get(name) is None else read_text(row, name, where)


def _statements(row: Row, name: str, where: str) -> list[str]:
    value = column(row, name, where)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: '{name}' should be a list of statements as text.")
    return list(value)


def _kind(value: object) -> str:
    return "empty" if value == "" else kind_of(value)


_PARSERS: Final = {"humaneval": _humaneval, "mbpp": _mbpp, "plain": _plain}
