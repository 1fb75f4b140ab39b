"""`python -m benchmarks.sandbox FILE…`: programs per second, ours and the usual executor's.

Runs the reference solutions of HumanEval or MBPP files, the two executors in turn, and prints the
median of the rounds' ratios. Start of the pool included, nothing else running is assumed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.plain_executor import check_all
from tasks.code.judging import reference_program
from tasks.code.problems import read_problems
from tasks.sandbox import Program, run_programs

SECONDS = 10.0  # no reference but MBPP 123's takes long, and that is left out
LEFT_OUT = "123"


def main() -> None:
    """Compare the executors on the files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--caller-mb", type=int, default=0, help="memory held by the caller")
    options = parser.parse_args()
    held = bytearray(b"x") * (options.caller_mb << 20)
    for file in options.files:
        programs = reference_programs(file)
        for form, some in (
            ("fast", programs),
            ("confirmed, a third right", a_third_right(programs)),
        ):
            ratio, ours, theirs = compare(some, form, options.rounds, options.workers)
            print(f"{file.name}, {form}: {ratio:.1f} × ({ours:.0f}/s against {theirs:.0f}/s)")
    del held


def reference_programs(file: Path) -> list[Program]:
    """Return the programs of a file's reference solutions."""
    return [
        replace(reference_program(problem, str(problem.task_id)), seconds=SECONDS)
        for problem in read_problems(file)
        if str(problem.task_id) != LEFT_OUT
    ]


def a_third_right(programs: Sequence[Program]) -> list[Program]:
    """Break two programs in three."""
    return [
        program
        if number % 3 == 0
        else replace(program, completion=program.completion.replace("return", "return not", 1))
        for number, program in enumerate(programs)
    ]


def compare(
    programs: Sequence[Program], form: str, rounds: int, workers: int
) -> tuple[float, float, float]:
    """Return the median ratio and both medians of programs per second."""
    confirm = form != "fast"
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(
            rate(programs, lambda: list(run_programs(programs, workers=workers, confirm=confirm)))
        )
        theirs.append(rate(programs, lambda: check_all(programs, workers=workers, seconds=SECONDS)))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), statistics.median(ours), statistics.median(theirs)


def rate(programs: Sequence[Program], run: Callable[[], object]) -> float:
    """Return how many programs a second `run` gets through."""
    start = time.monotonic()
    run()
    return len(programs) / (time.monotonic() - start)


if __name__ == "__main__":
    main()
