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
    """Runs nothing: a program takes the seconds that its completion names, and then passes.

    "5 asleep" spends its time waiting.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[str, float]] = []

    def __call__(self, programs: Iterable[Program]) -> Iterator[Verdict]:
        for program in programs:
            assert program.seconds is not None
            self.ran.append((program.completion, program.seconds))
            number, asleep, _ = (program.completion + "  ").split(" ", 2)
            needed = float(number)
            late = needed > program.seconds
            seconds = min(needed, program.seconds)
            yield Verdict(
                program.id,
                "timeout" if late else "passed",
                "",
                "fake",
                seconds=seconds,
                cpu_seconds=0.01 if asleep else seconds,
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


def test_a_limit_of_ones_own_replaces_the_first_one_and_is_extended_alike(tmp_path: Path) -> None:
    run = Fake()
    given = samples(tmp_path, ["1", "5", "1000"], reference="2")
    events = list(judge(given, GIVEN, run, {}, {}, seconds=7.0))
    assert run.ran == [
        ("1", 7.0), ("5", 7.0), ("1000", 7.0), ("2", 60.0), ("1000", 20.0)
    ]  # fmt: skip
    last = {event.index: event.result for event in events if isinstance(event, Judged)}
    assert [last[i].verdict for i in range(3)] == ["passed", "passed", "timeout"]
    assert time_limit(None, 7.0) == time_limit(0.1, 7.0) == 7.0


def test_whole_programs_run_without_their_prompt(tmp_path: Path) -> None:
    problem = read_problems(write_rows(tmp_path / "problems.jsonl", PLAIN))[0]
    program = make_program(Sample(problem, 0, "x = 1", whole=True), GIVEN, "id")
    assert (program.prompt, program.completion) == ("", "x = 1")
    assert make_program(Sample(problem, 0, "x = 1"), GIVEN, "id").prompt == problem.prefix


def test_a_program_that_hardly_had_the_processor_runs_again_once_after_the_others(
    tmp_path: Path,
) -> None:
    run = Fake()
    given = samples(tmp_path, ["5 asleep", "5", "1"], reference=None)
    events = list(judge(given, GIVEN, run, {}, {}))
    assert run.ran == [("5 asleep", 3.0), ("5", 3.0), ("1", 3.0), ("5 asleep", 3.0)]
    assert [(e.index, e.result.tries) for e in events if isinstance(e, Judged)] == [
        (0, 1),
        (1, 1),
        (2, 1),
        (0, 2),
    ]
    done = {event.index: event.result for event in events if isinstance(event, Judged)}
    assert list(judge(given, GIVEN, run, done, {})) == []


def test_a_stalled_machine_costs_no_verdict(tmp_path: Path) -> None:
    """The first run of each program stalls, as when the machine stands still for a while."""
    seen: set[str] = set()

    def stalled(programs: Iterable[Program]) -> Iterator[Verdict]:
        for program in programs:
            first = program.completion not in seen
            seen.add(program.completion)
            yield Verdict(program.id, "timeout" if first else "passed", "", "fake", seconds=3.0)

    given = samples(tmp_path, ["a", "b"], reference=None)
    last = {
        e.index: e.result for e in judge(given, GIVEN, stalled, {}, {}) if isinstance(e, Judged)
    }
    assert [result.verdict for result in last.values()] == ["passed", "passed"]


def test_identical_programs_run_once(tmp_path: Path) -> None:
    run = Fake()
    given = samples(tmp_path, ["1", "5", "1", "5", "1 "] * 100, reference="2")
    events = [e for e in judge(given, GIVEN, run, {}, {}) if isinstance(e, Judged)]
    assert run.ran == [("1", 3.0), ("5", 3.0), ("1 ", 3.0), ("2", 60.0), ("5", 20.0)]
    assert len(events) == 500 + 200
    assert sum(not event.copied for event in events) == 4
    last = {event.index: event.result for event in events}
    assert all(result.verdict == "passed" for result in last.values())
    assert [last[i].limit for i in range(5)] == [3.0, 20.0, 3.0, 20.0, 3.0]


def test_the_same_text_for_another_problem_runs_for_itself(tmp_path: Path) -> None:
    rows = [{"task_id": name, "prompt": "", "tests": "pass"} for name in ("a", "b")]
    problems = read_problems(write_rows(tmp_path / "problems.jsonl", rows))
    given = [{"task_id": name, "completion": "1"} for name in ("a", "b", "a")]
    run = Fake()
    found = read_samples(write_rows(tmp_path / "samples.jsonl", given), problems).samples
    list(judge(found, GIVEN, run, {}, {}))
    assert run.ran == [("1", 3.0)] * 2


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
    given = samples(tmp_path, ["1", "5", "1000", "2", "5", "1", "9 asleep"], reference="2")
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
