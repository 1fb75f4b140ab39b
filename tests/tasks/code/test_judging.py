from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tasks.code.conventions import get_convention
from tasks.code.judging import (
    BASE_SECONDS,
    Judged,
    Measured,
    Result,
    judge,
    make_program,
    reference_program,
    time_limit,
)
from tasks.code.problems import read_problems
from tasks.code.samples import Sample, read_samples
from tasks.sandbox import Program, Verdict, run_programs
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows


class Fake:
    """Runs nothing: a program takes the seconds that its completion names, and then passes."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, float]] = []

    def __call__(self, programs: Iterable[Program]) -> Iterator[Verdict]:
        for program in programs:
            assert program.seconds is not None
            self.ran.append((program.completion, program.seconds))
            needed = float(program.completion)
            late = needed > program.seconds
            yield Verdict(
                program.id,
                "timeout" if late else "passed",
                "",
                "fake",
                seconds=min(needed, program.seconds),
            )


def samples(tmp_path: Path, completions: list[str], reference: str | None) -> list[Sample]:
    rows = [PLAIN[0] | {"prompt": "", "reference": reference}]
    problems = read_problems(write_rows(tmp_path / "problems.jsonl", rows))
    given = [{"task_id": "add", "completion": completion} for completion in completions]
    return read_samples(write_rows(tmp_path / "samples.jsonl", given), problems).samples


GIVEN = get_convention("as-given", [])


def test_a_program_gets_more_time_if_its_reference_is_slow(tmp_path: Path) -> None:
    run = Fake()
    given = samples(tmp_path, ["1", "5", "1000"], reference="2")
    events = list(judge(given, GIVEN, run, {}, {}))
    assert run.ran[:3] == [("1", 3.0), ("5", 3.0), ("1000", 3.0)]
    assert run.ran[3:] == [("2", 60.0), ("5", 20.0), ("1000", 20.0)]
    assert events[3] == Measured("add", 2.0)
    last = {event.index: event.result for event in events if isinstance(event, Judged)}
    assert [last[i].verdict for i in range(3)] == ["passed", "passed", "timeout"]
    assert last[2].limit == 20.0


@pytest.mark.parametrize("reference", [None, "0.1", "100"])
def test_nothing_runs_twice_without_a_slow_reference(tmp_path: Path, reference: str | None) -> None:
    """A reference that does not end in a minute is none."""
    run = Fake()
    given = samples(tmp_path, ["1", "5"], reference)
    events = list(judge(given, GIVEN, run, {}, {}))
    expected = [("1", 3.0), ("5", 3.0)] + ([(reference, 60.0)] if reference else [])
    assert run.ran == expected
    assert [event.result.verdict for event in events if isinstance(event, Judged)] == [
        "passed",
        "timeout",
    ]


def test_it_goes_on_from_wherever_it_was_stopped(tmp_path: Path) -> None:
    given = samples(tmp_path, ["1", "5", "1000", "2"], reference="2")
    whole = list(judge(given, GIVEN, Fake(), {}, {}))
    for stop in range(len(whole) + 1):
        done: dict[int, Result] = {}
        references: dict[str, float | None] = {}
        for event in [*whole[:stop], None]:
            if isinstance(event, Judged):
                done[event.index] = event.result
            elif isinstance(event, Measured):
                references[event.key] = event.seconds
        rest = list(judge(given, GIVEN, Fake(), done, references))
        assert rest == whole[stop:]


def test_time_limits() -> None:
    assert time_limit(None) == time_limit(0.0) == BASE_SECONDS == 3.0
    assert time_limit(1.0) == 10.0
    assert time_limit(50.0) == 100.0


def test_programs_keep_trusted_code_apart(tmp_path: Path) -> None:
    rows = [*HUMANEVAL, *MBPP, *PLAIN]
    problems = read_problems(write_rows(tmp_path / "problems.jsonl", rows))
    program = make_program(Sample(problems[1], 0, "    return 1\n"), GIVEN, "7")
    assert (program.id, program.prompt) == ("7", HUMANEVAL[1]["prompt"])
    assert (program.completion, program.entry_points) == ("    return 1\n", ("quarter",))
    assert program.seconds == BASE_SECONDS
    with pytest.raises(ValueError, match="no reference"):
        reference_program(problems[5], "x")


@pytest.mark.parametrize("convention", ["as-given", "bigcode-unstripped"])
def test_the_sandbox_passes_references_and_nothing_else(tmp_path: Path, convention: str) -> None:
    rows = [*HUMANEVAL, *MBPP, *PLAIN]
    problems = read_problems(write_rows(tmp_path / "problems.jsonl", rows))
    known = [problem for problem in problems if problem.reference is not None]
    chosen = get_convention(convention, problems)
    programs = [reference_program(problem, "right") for problem in known]
    programs += [
        make_program(Sample(problem, 0, problem.reference or ""), chosen, "right")
        for problem in known
    ]
    programs += [
        make_program(Sample(problem, 0, "    return None\n"), chosen, "wrong")
        for problem in problems
    ]
    outcomes = [verdict.outcome for verdict in run_programs(programs, workers=1)]
    assert outcomes == ["passed"] * 2 * len(known) + ["failed"] * len(problems)
