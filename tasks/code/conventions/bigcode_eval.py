"""bigcode-evaluation-harness' own task classes on local rows, if the package is installed.

Prompts, stop words, post-processing and references are the package's; programs are run by this
project's sandbox, never by the package's executor. Its MBPP ignores `test_setup_code`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from unittest import mock

from sparsepo.errors import UserError, first_line
from tasks.code.conventions import Convention
from tasks.code.problems import Kind, Problem, task_key

_TASKS: Final[dict[Kind, str]] = {"humaneval": "humaneval", "mbpp": "mbpp"}
_INSTALL: Final = (
    "pip install git+https://github.com/bigcode-project/bigcode-evaluation-harness (it is not on "
    "PyPI), or use the convention 'bigcode'"
)


class BigCodeEval(Convention):
    """The package's tasks `humaneval` or `mbpp`, on the problems given."""

    name: ClassVar[str] = "bigcode_eval"

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Load the task of the problems' kind.

        Args:
            problems: all of HumanEval's schema or all of MBPP's.

        Raises:
            UserError: the package cannot be imported or used, or the problems have another schema.
        """
        kinds = {problem.kind for problem in problems}
        if len(kinds) != 1 or not kinds <= set(_TASKS):
            raise UserError(
                "The convention 'bigcode_eval' needs problems that are all HumanEval's or all "
                "MBPP's; use 'as-given' for others."
            )
        self._index = {task_key(problem.task_id): i for i, problem in enumerate(problems)}
        self._task = _load_task(_TASKS[kinds.pop()], [problem.row for problem in problems])

    def prompt(self, problem: Problem) -> str:
        """Return `get_prompt` of the row."""
        return str(self._task.get_prompt(problem.row))

    def stops(self, problem: Problem) -> tuple[str, ...]:
        """Return the task's `stop_words`."""
        return tuple(self._task.stop_words or ())

    def parts(self, problem: Problem, completion: str) -> tuple[str, str]:
        """Return `postprocess_generation` of prompt and completion, split after the prompt."""
        prompt = self.prompt(problem)
        index = self._index[task_key(problem.task_id)]
        program = str(self._task.postprocess_generation(prompt + completion, index))
        if program.startswith(prompt):
            return prompt, program[len(prompt) :]
        return "", program

    def whole_parts(self, problem: Problem, program: str) -> tuple[str, str]:
        """Return `postprocess_generation` of a program that begins with its prompt."""
        prompt = self.prompt(problem)
        if not program.startswith(prompt):
            return "", program
        return self.parts(problem, program[len(prompt) :])

    def tests(self, problem: Problem) -> str:
        """Return `get_reference` of the row."""
        return str(self._task.get_reference(problem.row))


def _load_task(name: str, rows: list[dict[str, Any]]) -> Any:
    """Return the package's task with the given rows as data set; nothing is downloaded."""
    try:
        base = importlib.import_module("bigcode_eval.base")
        tasks = importlib.import_module("bigcode_eval.tasks")
    except ImportError as error:
        raise UserError(
            f"bigcode_eval cannot be imported ({first_line(error)}): {_INSTALL}."
        ) from error

    def load_dataset(*args: Any, **kwargs: Any) -> dict[str, list[dict[str, Any]]]:
        return {"test": rows}

    try:
        with mock.patch.object(base, "load_dataset", load_dataset), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = tasks.get_task(name)
        if task.dataset["test"] is not rows:
            raise ValueError("its tasks do not take their rows from load_dataset")
    except Exception as error:
        # Another release of the package may fail in any way; the remedy is the same.
        raise UserError(
            f"This version of bigcode_eval cannot be used ({first_line(error)}); use the "
            "convention 'bigcode', which does the same."
        ) from error
    return task
