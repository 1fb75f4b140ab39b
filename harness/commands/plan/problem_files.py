"""How many programming problems of each set a user's file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from harness.domains.code.work.problems import VALIDATION_IDS
from tasks.code.problems import Problem, in_mbpp_test_split, read_problems


@lru_cache
def problems_of_file(file: Path) -> Mapping[str, int]:
    """Return the number of problems of each set, such as "mbpp_test"; 0 for a set without any.

    Args:
        file: problems of one benchmark, in its own schema.

    Raises:
        UserError: the file cannot be read.
    """
    return Counter(map(_set_of, read_problems(file)))


def _set_of(problem: Problem) -> str:
    if problem.kind == "humaneval":
        return "humaneval"
    if in_mbpp_test_split(problem.task_id):
        return "mbpp_test"
    validation = str(problem.task_id) in map(str, VALIDATION_IDS)
    return "mbpp_validation" if validation else "mbpp_train"
