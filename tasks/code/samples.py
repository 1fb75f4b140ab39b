"""Completions that a model has generated: `{task_id, completion}` rows, several per problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsepo.errors import UserError, did_you_mean
from tasks.code.problems import (
    MBPP_TEST_IDS,
    Problem,
    in_mbpp_test_split,
    printable,
    read_task_id,
    read_text,
    rows_of_file,
    task_key,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of one problem."""

    problem: Problem
    number: int
    """Position among the problem's samples in the file, from 0."""
    completion: str


@dataclass(frozen=True, slots=True)
class SampleSet:
    """The samples of a file, and the problems that they are samples of."""

    problems: list[Problem]
    """Those that count, in the order of their file; each has a sample."""
    samples: list[Sample]
    """In the order of their file."""
    left_out: int
    """Problems outside MBPP's test split, none of which has a sample."""

    def per_problem(self) -> dict[str, int]:
        """Return how many samples each problem has, by `task_key`."""
        return Counter(task_key(sample.problem.task_id) for sample in self.samples)


def read_samples(path: str | Path, problems: Sequence[Problem]) -> SampleSet:
    """Read a file of samples and match them with their problems.

    Every problem needs a sample, because a missing one would raise the mean unseen. MBPP's rows
    outside its test split are excepted as long as none of them has a sample: its one file holds
    all splits, and 500 problems are what is evaluated.

    Args:
        path: rows with `task_id` and `completion`; JSON Lines (gzip or not), a JSON list, Parquet.
        problems: what they are samples of.

    Returns:
        The samples and the problems that count.

    Raises:
        UserError: if the file is missing, damaged or empty, lacks a column, names a problem that
            is not there, or leaves a problem without a sample.
    """
    by_key = {task_key(problem.task_id): problem for problem in problems}
    numbers: Counter[str] = Counter()
    samples: list[Sample] = []
    for line, row in enumerate(rows_of_file(path), start=1):
        where = f"{path}, row {line}"
        key = task_key(read_task_id(row, where))
        completion = read_text(row, "completion", where)
        if key not in by_key:
            raise UserError(
                f"{where}: there is no problem '{printable(key)}'.{did_you_mean(key, by_key)} "
                "The samples' ids are those of the problems' file."
            )
        samples.append(Sample(by_key[key], numbers[key], completion))
        numbers[key] += 1
    if not samples:
        raise UserError(f"{path} holds no samples.")
    counted = _counted(problems, numbers)
    without = [problem for problem in counted if not numbers[task_key(problem.task_id)]]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise UserError(
            f"{path} has no sample of the problem {printable(without[0].task_id)}{more}; give at "
            "least one of each, or a problems' file without them."
        )
    return SampleSet(counted, samples, left_out=len(problems) - len(counted))


def _counted(problems: Sequence[Problem], numbers: Counter[str]) -> list[Problem]:
    test = [p for p in problems if p.kind != "mbpp" or in_mbpp_test_split(p.task_id)]
    others_sampled = any(
        numbers[task_key(p.task_id)]
        for p in problems
        if p.kind == "mbpp" and not in_mbpp_test_split(p.task_id)
    )
    whole = len(test) == len(MBPP_TEST_IDS)
    return test if whole and not others_sampled else list(problems)
