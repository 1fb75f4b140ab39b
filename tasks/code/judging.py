"""Judges samples: builds programs for the sandbox, and sets their time limits.

Identical programs run once, because a small model often writes the same completion.

Every program first gets the sandbox's default time limit. To avoid wrong verdicts for slow problems
and on busy machines, a program that runs out of time runs again, once and after all others,

- if its problem has a reference solution whose time on this machine, scaled, exceeds the limit; the
  reference is measured only in this case;
- if it had the processor for less than half of its time, and may have waited for other processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.code.conventions import Convention
from tasks.code.problems import Problem, task_key
from tasks.code.samples import Sample
from tasks.sandbox import Limits, Outcome, Program, Verdict, scaled_seconds

BASE_SECONDS: Final = Limits().seconds
"""[code] bigcode-evaluation-harness' limit of three seconds."""
MOST_SECONDS: Final = 60.0
"""[ours] Time limit of a reference."""
STARVED: Final = 0.5
"""[ours] A timeout with a smaller share of processor time in its limit is run again."""

RunPrograms = Callable[[Iterable[Program]], Iterator[Verdict]]
"""Runs programs outside of this process and yields a verdict for each, in any order."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a sample."""

    verdict: Outcome
    detail: str
    """Why, in a line."""
    seconds: float
    """Time of the deciding run, in seconds."""
    limit: float
    """Its time limit, in seconds."""
    suspect: bool = False
    """Whether it is a suspected forgery, which passed only in the same process as its tests."""
    cpu_seconds: float = 0.0
    """Processor time of the deciding run."""
    tries: int = 1
    """Number of runs."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample has its result; a later one of the same sample replaces it."""

    index: int
    """Position in the list of samples."""
    result: Result
    copied: bool = False
    """Whether an identical program was run instead."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A reference solution was run."""

    key: str
    """`task_key` of its problem."""
    seconds: float | None
    """Its time in seconds; None if it did not pass its own tests here."""


def judge(
    samples: Sequence[Sample],
    convention: Convention,
    run: RunPrograms,
    done: Mapping[int, Result],
    references: Mapping[str, float | None],
    seconds: float = BASE_SECONDS,
) -> Iterator[Judged | Measured]:
    """Run every sample that has no verdict yet.

    Args:
        samples: all samples.
        convention: turns them into programs.
        run: runs the programs.
        done: results of an interrupted run, by position in `samples`.
        references: the reference times in seconds that it measured, by `task_key`.
        seconds: the first time limit of a program.

    Yields:
        Events, in order; an interrupted run can resume from those that were recorded.
    """
    results = dict(done)
    first = {index: seconds for index in range(len(samples)) if index not in results}
    for judged in _run(samples, convention, run, first, results, tries=1):
        results[judged.index] = judged.result
        yield judged
    late = [index for index, result in sorted(results.items()) if result.verdict == "timeout"]
    problems = [samples[index].problem for index in late]
    known = dict(references)
    for measured in _measure([p for p in problems if p.reference is not None], known, run):
        known[measured.key] = measured.seconds
        yield measured
    again = {}
    for index, problem in zip(late, problems, strict=True):
        result = results[index]
        limit = max(time_limit(known.get(task_key(problem.task_id)), seconds), result.limit)
        starved = result.cpu_seconds < STARVED * result.limit
        if result.tries == 1 and (limit > result.limit or starved):
            again[index] = limit
    yield from _run(samples, convention, run, again, results, tries=2)


def time_limit(reference: float | None, least: float = BASE_SECONDS) -> float:
    """Return the time limit of a program, in seconds.

    Args:
        reference: time of the reference solution on this machine; None if there is none.
        least: the smallest limit.
    """
    return least if reference is None else scaled_seconds(reference, least=least)


def make_program(
    sample: Sample, convention: Convention, program_id: str, seconds: float = BASE_SECONDS
) -> Program:
    """Return the program that tests a sample.

    Args:
        sample: a problem's completion.
        convention: determines the code before it, where it is cut and how it is tested.
        program_id: identifies the program in its verdict.
        seconds: its time limit.
    """
    problem = sample.problem
    prompt, completion = _parts(sample, convention)
    return Program(
        id=program_id,
        completion=completion,
        tests=convention.tests(problem),
        prompt=prompt,
        entry_points=problem.entry_points,
        seconds=seconds,
    )


def _parts(sample: Sample, convention: Convention) -> tuple[str, str]:
    split = convention.whole_parts if sample.whole else convention.parts
    return split(sample.problem, sample.completion)


def reference_program(problem: Problem, program_id: str) -> Program:
    """Return the program that tests a problem's reference solution.

    Raises:
        ValueError: it has none.
    """
    if problem.reference is None:
        raise ValueError(f"the problem {problem.task_id} has no reference solution")
    return Program(
        id=program_id,
        completion=problem.reference,
        tests=problem.tests,
        prompt=problem.prefix,
        entry_points=problem.entry_points,
        seconds=MOST_SECONDS,
    )


def _run(
    samples: Sequence[Sample],
    convention: Convention,
    run: RunPrograms,
    limits: Mapping[int, float],
    results: Mapping[int, Result],
    tries: int,
) -> Iterator[Judged]:
    """Judge the samples in `limits`, identical programs once; `results` contains known results."""
    known = {
        (_text_key(samples[index], convention), result.limit): result
        for index, result in results.items()
        if limits and result.tries == tries
    }
    groups: dict[tuple[bytes, float], list[int]] = {}
    for index, limit in limits.items():
        key = _text_key(samples[index], convention), limit
        if key in known:
            yield Judged(index, known[key], copied=True)
        else:
            groups.setdefault(key, []).append(index)
    alike = {group[0]: group for group in groups.values()}
    programs = (
        make_program(samples[index], convention, str(index), limits[index]) for index in alike
    )
    for verdict in run(programs) if alike else ():
        first = int(verdict.id)
        result = Result(
            verdict=verdict.outcome,
            detail=verdict.detail,
            seconds=verdict.seconds,
            limit=limits[first],
            suspect=verdict.suspected_forgery,
            cpu_seconds=verdict.cpu_seconds,
            tries=tries,
        )
        for index in alike[first]:
            yield Judged(index, result, copied=index != first)


def _text_key(sample: Sample, convention: Convention) -> bytes:
    """Return a key of problem and text, which is equal for samples with identical programs."""
    whole = (task_key(sample.problem.task_id), *_parts(sample, convention))
    return hashlib.blake2b(ascii(whole).encode(), digest_size=16).digest()


def _measure(
    problems: Iterable[Problem], known: Mapping[str, float | None], run: RunPrograms
) -> Iterator[Measured]:
    wanted = {task_key(problem.task_id): problem for problem in problems}
    missing = {key: problem for key, problem in wanted.items() if key not in known}
    if missing:
        programs = (reference_program(problem, key) for key, problem in missing.items())
        for verdict in run(programs):
            yield Measured(verdict.id, verdict.seconds if verdict.passed else None)
