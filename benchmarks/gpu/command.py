"""`python -m benchmarks.gpu`: everything that should be checked on a GPU, in at most eight minutes.

Nothing is downloaded: models have random weights. First come the checks, in order of importance,
then time and memory against the installed peers, TRL and Liger. Each check has a time limit and
runs in a process apart, and all of them share the time of --budget. A card in benchmarks/cards/ has
a verdict per line. The exit code is 1 if a check failed; one that could not be run is no failure,
and its line says why. `--device cpu --small` tries the same code on a CPU, as far as it goes there.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.processes import START_LIMIT, Checks, Suite
from benchmarks.gpu.report import Line, Report, summary, write_report
from benchmarks.process import REPOSITORY, BenchmarkError
from sparsepo.errors import UserError, require_choice

CARDS = REPOSITORY / "benchmarks" / "cards"
BUDGET = 470.0
"""Seconds of the whole run."""

RESERVE = 6.0
"""Seconds that are kept for ending processes and writing the card."""

FEWEST = 5.0
"""A part with less time than this is not begun."""

ROUNDS = 5
ROOMY_MEMORY, ROOMY_CORES = 100 * 2**30, 8
"""On a GPU and a machine of at least that size the checks run in two lanes, and the systems that
will be compared start meanwhile: compiling and importing take most of the time of both."""

LATE_LIMIT = 60.0
"""Seconds in which these systems must be ready once the checks have ended."""


@dataclass(frozen=True)
class Part:
    """A check, which a process of benchmarks.gpu.worker runs."""

    name: str
    title: str
    check: str
    """module:function"""
    limit: float
    """Seconds on a GPU."""
    lane: int = 0
    """Which process runs it, where there are two."""


CHECKS = (
    Part("fused", "fused operation", "benchmarks.gpu.numerics:fused_operation", 45),
    Part("flex", "FlexAttention", "benchmarks.gpu.numerics:flex_attention", 120),
    Part("packed", "packed rows = plain", "benchmarks.gpu.numerics:packed_is_plain", 75),
    Part("dtypes", "bfloat16 and float32", "benchmarks.gpu.runs:dtypes", 90, lane=1),
    Part("lora", "LoRA", "benchmarks.gpu.runs:adapters", 60, lane=1),
    Part("qlora", "QLoRA", "benchmarks.gpu.runs:quantized", 60, lane=1),
    Part("resume", "checkpoint and resume", "benchmarks.gpu.runs:resuming", 60, lane=1),
    Part("methods", "a step of every method", "benchmarks.gpu.runs:methods", 60, lane=1),
)
HEAD = Part("head", "speed of the output head", "benchmarks.gpu.head:head_speed", 75)
SUITE = "tests"
SUITE_TITLE = "the suite's tests that need a GPU"
SUITE_LIMIT = 30.0
"""Seconds that the suite's tests may take after the checks, beside which they run."""

CONTEST_LIMIT = 90.0
"""Seconds of a contest's steps."""

_PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@-]+)+/([\w.+@-]+)")
"""An absolute path, of which the card shows only the last part."""

NO_TIME = "the time of the whole run was used up"


CONTESTS = ("hh", "tldr", "smollm2", "varied")
"""The contests of benchmarks.gpu.race, which takes seconds to import."""

PARTS = (*(part.name for part in CHECKS), SUITE, HEAD.name, *CONTESTS)
"""The names of all parts, in the order in which they run."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="reduced shapes; needed on a CPU")
    parser.add_argument(
        "--budget", type=float, default=BUDGET, help="seconds of the whole run; default: 470"
    )
    parser.add_argument(
        "--only", help=f"parts to run, joined by commas: {', '.join(PARTS)}; default: all"
    )
    parser.add_argument("--name", help="the card's name; default: date and gpu")
    parser.add_argument(
        "--out", type=Path, help="folder for the card; default: benchmarks/cards, on a CPU none"
    )
    return parser


@dataclass
class Run:
    """A run of the command: its time, its report, and what it has started."""

    options: argparse.Namespace
    report: Report
    folder: Path
    save: Callable[[Report], None]
    started: float
    environment: dict[str, str] = field(default_factory=dict)
    tracebacks: dict[str, list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> float:
        """Seconds left for parts."""
        budget: float = self.options.budget
        return self.started + budget - RESERVE - time.monotonic()

    def limit(self, seconds: float) -> float:
        """Return a part's limit; on a CPU only the whole run has one."""
        return self.left if self.options.device == "cpu" else min(seconds, self.left)

    def wanted(self, name: str) -> bool:
        """Return whether a part was asked for."""
        return self.options.only is None or name in self.options.only

    def add(self, name: str, title: str, answer: dict[str, Any], seconds: float) -> None:
        """Add a line to the report, print it and save the card."""
        text = _PATH.sub(r"\1", answer["text"])
        line = Line(name, title, answer["verdict"], text, seconds, answer["figures"])
        with self._lock:
            self.report.lines.append(line)
            self.report.lines.sort(key=lambda one: PARTS.index(one.part))
            self.report.seconds = time.monotonic() - self.started
            if line.verdict == "failed" and answer.get("traceback"):
                self.tracebacks[title] = answer["traceback"]
            print(f"{line.verdict:>8}  {title}: {line.text} ({seconds:.0f} s)", flush=True)
            self.save(self.report)

    def check(self, checks: Checks, part: Part) -> None:
        """Run a check and add its line."""
        if not self.wanted(part.name):
            return
        limit = self.limit(part.limit)
        if limit < FEWEST:
            answer: dict[str, Any] = {"verdict": "not run", "text": NO_TIME, "figures": {}}
            self.add(part.name, part.title, answer, 0.0)
            return
        began = time.monotonic()
        answer = checks.run(part.check, limit)
        if answer.get("late") and (self.options.device == "cpu" or limit < part.limit):
            # The run's time has ended it, not its own.
            answer = {"verdict": "not run", "text": NO_TIME, "figures": {}}
        self.add(part.name, part.title, answer, time.monotonic() - began)


def run_parts(run: Run) -> None:
    """Run all parts that were asked for.

    Raises:
        UserError: there is no GPU, and none was to be left out.
    """
    options = run.options
    cuda = options.device == "cuda"
    with contextlib.ExitStack() as stack:

        def lane(number: int) -> Checks:
            folder = run.folder / f"checks-{number}"
            folder.mkdir()
            checks = Checks(options.device, options.small, folder, run.environment)
            stack.callback(checks.close)
            checks.start()
            return checks

        lanes = [lane(0)]
        # transformers is imported meanwhile.
        from benchmarks.card import hardware, library_versions
        from benchmarks.gpu.race import Race, contests

        try:
            machine = lanes[0].ready(run.limit(START_LIMIT))
        except BenchmarkError as error:
            raise UserError(f"The checks cannot start: {error}.") from error
        if cuda and not machine["cuda"]:
            raise UserError(
                "There is no GPU that torch can use; python -m benchmarks.gpu --device cpu --small "
                "tries the command on a CPU."
            )
        run.report.facts = {**facts_of(machine), **hardware("cpu", None), **library_versions()}
        roomy = cuda and has_room(machine)
        if roomy:
            lanes.append(lane(1))
        suite = None
        if run.wanted(SUITE) and cuda:
            suite = Suite(run.folder, run.environment)
            stack.callback(suite.close)
        races = []
        rounds = 2 if options.small else ROUNDS
        for contest in contests(options.small):
            if run.wanted(contest.name):
                folder = run.folder / contest.name
                folder.mkdir()
                races.append(Race(contest, folder, rounds, options.device, run.environment))
                stack.callback(races[-1].close)
        _run_checks(run, lanes, beside=[race.start for race in races if roomy])
        if run.wanted(SUITE):
            _finish_suite(run, suite)
        if roomy:
            # Nothing else may be running while times are taken.
            deadline = time.monotonic() + run.limit(LATE_LIMIT)
            for race in races:
                race.wait(max(0.0, deadline - time.monotonic()))
        run.check(lanes[0], HEAD)
        for checks in lanes:
            checks.close()
        for race in races:
            _contest(run, race, started=roomy)


def _run_checks(run: Run, lanes: Sequence[Checks], beside: Sequence[Callable[[], None]]) -> None:
    """Run the checks, each lane its own or one lane all of them, and something beside them."""

    def work(number: int) -> None:
        for part in CHECKS:
            if part.lane % len(lanes) == number:
                run.check(lanes[number], part)

    def start() -> None:
        for action in beside:
            action()

    with ThreadPoolExecutor(len(lanes) + 1) as pool:
        jobs = [pool.submit(start), *(pool.submit(work, number) for number in range(len(lanes)))]
        for job in jobs:
            job.result()


def _finish_suite(run: Run, suite: Suite | None) -> None:
    answer: dict[str, Any] = {"verdict": "not run", "text": "they need a GPU", "figures": {}}
    if suite is not None:
        answer = suite.finish(max(0.0, run.limit(SUITE_LIMIT)))
    run.add(SUITE, SUITE_TITLE, answer, 0.0 if suite is None else suite.seconds)


def _contest(run: Run, race: Any, *, started: bool) -> None:
    began = time.monotonic()
    found = None
    if run.left >= FEWEST:
        if not started:
            race.start()
            race.wait(run.limit(START_LIMIT))
        found = race.run(run.limit(CONTEST_LIMIT))
    race.close()
    if found is not None:
        run.report.measurements.append(found)
    from benchmarks.card import name_of

    for system, result in race.results(found).items():
        title = f"{race.contest.title}: {name_of(system)}"
        answer = {"verdict": result.verdict, "text": result.text, "figures": result.figures}
        seconds = time.monotonic() - began if system == race.contest.systems[-1] else 0.0
        run.add(race.contest.name, title, answer, seconds)


def has_room(machine: dict[str, Any]) -> bool:
    """Return whether the GPU has memory, and the machine cores, for all processes at once."""
    cores = len(os.sched_getaffinity(0))
    return bool(machine["memory"] >= ROOMY_MEMORY and cores >= ROOMY_CORES)


def facts_of(machine: dict[str, Any]) -> dict[str, str]:
    """Return the GPU as the card shows it."""
    if not machine["cuda"]:
        return {}
    return {
        "GPU": machine["GPU"],
        "GPU memory": f"{machine['memory'] / 2**30:.0f} GiB",
        "compute capability": machine["capability"],
        "CUDA": machine["CUDA"],
        "float32 products": machine["float32"],
    }


def environment_of(device: str) -> dict[str, str]:
    """Return the environment of all processes: one card, no network, no pool of compilers."""
    found = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        # Each process compiles a kernel at a time, and a pool of its own would only cost its start.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    if device == "cuda":
        found["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return found


def _settle(options: argparse.Namespace) -> None:
    """Check the command line.

    Raises:
        UserError: an unknown part, too little time, or a CPU with full sizes.
    """
    if options.device == "cpu" and not options.small:
        raise UserError("--device cpu needs --small; the full sizes are for a GPU.")
    if options.budget <= RESERVE + FEWEST:
        raise UserError(
            f"--budget must be more than {RESERVE + FEWEST:g} seconds, not {options.budget:g}."
        )
    if options.only is not None:
        options.only = options.only.split(",")
        for name in options.only:
            require_choice("--only", name, PARTS)
    if options.out is None and options.device == "cuda":
        options.out = CARDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a check failed, 2 for an error that the user can fix."""
    started = time.monotonic()
    options = build_parser().parse_args(argv)
    words = list(sys.argv[1:] if argv is None else argv)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *_without_folder(words)])
    date = datetime.date.today().isoformat()
    files: list[Path] = []

    def save(report: Report) -> None:
        if options.out is not None:
            files[:] = write_report(report, options.out, options.name or f"{date}-gpu")

    try:
        _settle(options)
        dtype = "float32" if options.device == "cpu" else "bfloat16"
        report = Report(date, command, {}, dtype, reduced=options.small)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            environment = environment_of(options.device)
            state = Run(options, report, Path(folder), save, started, environment)
            run_parts(state)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the card has the lines so far.", file=sys.stderr)
        return 130
    report.seconds = time.monotonic() - started
    save(report)
    for title, lines in state.tracebacks.items():
        print(f"\n{title}:", *lines, sep="\n", file=sys.stderr)
    print(f"\n{summary(report.lines)} in {report.seconds:.0f} s", *files, sep="\n")
    return 1 if report.failed else 0


def _without_folder(words: Sequence[str]) -> list[str]:
    """Return a command line with the names of folders only, not their location."""
    return [word.rsplit("/", 1)[-1] if "/" in word else word for word in words]
