"""A long run: `python -m tests.tasks.sandbox.soak FILE… --programs 66400 [--hostile 0.01]`.

Reference solutions of HumanEval and MBPP files, whole, cut off and broken, over and over, some of
them hostile. Prints pace, memory, processes and descriptors as it goes, and in the end what was not
as it should be: a verdict lost or out of order, a reference that did not pass, a hostile program
with a wrong verdict, a program with different verdicts in different rounds. `starved` counts
timeouts that had the processor for less than half of their time, which on a busy machine endless
loops have too.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tasks.code.judging import STARVED, reference_program
from tasks.code.problems import read_problems
from tasks.sandbox import Limits, Program, run_programs
from tests.tasks.sandbox import battery

SLOW = "123"  # MBPP's: its reference takes as long as all others together


def base_programs(files: list[Path]) -> list[Program]:
    """Every reference solution whole, cut off in the middle, and with a wrong return."""
    found = []
    for file in files:
        for problem in read_problems(file):
            if problem.reference is None or str(problem.task_id) == SLOW:
                continue
            whole = replace(reference_program(problem, f"{problem.task_id} whole"), seconds=None)
            text = whole.completion
            half = text[: len(text) // 2]
            broken = text.replace("return", "return None and", 1)
            found.append(whole)
            found.append(replace(whole, id=f"{problem.task_id} half", completion=half))
            found.append(replace(whole, id=f"{problem.task_id} broken", completion=broken))
    return found


def main() -> None:
    """Run as many programs as asked for, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--hostile", type=float, default=0.0, help="share of hostile programs")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--tier")
    parser.add_argument("--every", type=int, default=2000)
    options = parser.parse_args()
    base = base_programs(options.files)
    random.Random(0).shuffle(base)
    with tempfile.TemporaryDirectory() as place, battery.plant(Path(place)) as planted:
        soak(base, planted, options)


def soak(base: list[Program], planted: battery.Planted, options: argparse.Namespace) -> None:
    """Run and report; `base` is repeated until there are enough."""
    rows = {f"hostile {row.name}": row for row in battery.rows()}
    hostile = [
        Program(
            name,
            battery.filled(row.candidate, planted),
            battery.filled(row.tests, planted),
            seconds=row.seconds,
        )
        for name, row in rows.items()
    ]
    draw = random.Random(1)
    given: collections.deque[str] = collections.deque()
    source, enemies = itertools.cycle(base), itertools.cycle(hostile)

    def programs() -> Iterator[Program]:
        for _ in range(options.programs):
            program = next(enemies if draw.random() < options.hostile else source)
            given.append(program.id)
            yield program

    seen: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    wrong: list[str] = []
    digest = planted.digest()
    start = last = time.monotonic()
    count = starved = 0
    limits = Limits()
    verdicts = run_programs(programs(), workers=options.workers, tier=options.tier, limits=limits)
    for verdict in verdicts:
        count += 1
        if verdict.id != given.popleft():
            wrong.append(f"{verdict.id}: out of turn")
        seen[verdict.id][verdict.outcome] += 1
        row = rows.get(verdict.id)
        word = {"passed": "pass", "timeout": "timeout"}.get(verdict.outcome, "fail")
        right = word in row.accept if row else True
        limit = row.seconds if row else limits.seconds
        if verdict.outcome == "timeout" and verdict.cpu_seconds < STARVED * limit:
            starved += 1
        if not right or (verdict.id.endswith("whole") and not verdict.passed):
            wrong.append(
                f"{verdict.id}: {verdict.outcome} ({verdict.detail}) {verdict.form} after "
                f"{verdict.seconds:.2f} s, {verdict.cpu_seconds:.2f} s of processor"
            )
        if count % options.every == 0:
            now = time.monotonic()
            state = memory() | {
                "programs": count,
                "per_second": round(options.every / (now - last), 1),
            }
            print(json.dumps(state), flush=True)
            last = now
    differing = [
        f"{name}: {dict(outcomes)}" for name, outcomes in seen.items() if len(outcomes) > 1
    ]
    if planted.digest() != digest:
        wrong.append("planted files changed")
    if planted.connections:
        wrong.append(f"reached {planted.connections}")
    if left := battery.descendants() - {planted.canary.pid}:
        wrong.append(f"processes left: {sorted(left)}")
    total: collections.Counter[str] = sum(seen.values(), collections.Counter())
    report = {
        "programs": count,
        "lost": options.programs - count + len(given),
        "different": len(seen),
        "seconds": round(time.monotonic() - start, 1),
        "outcomes": total,
        "starved": starved,
        "wrong": collections.Counter(wrong).most_common(),
        "differing": differing,
    }
    print(json.dumps(report, indent=1))


def memory() -> dict[str, float]:
    """Resident megabytes of this process and of what it started; processes and descriptors."""
    found = {"caller_mb": resident(os.getpid()), "boxes_mb": 0.0, "processes": 0}
    for number in battery.descendants():
        found["boxes_mb"] += resident(number)
        found["processes"] += 1
    found["boxes_mb"] = round(found["boxes_mb"], 1)
    found["descriptors"] = len(list(Path("/proc/self/fd").iterdir()))
    return found


def resident(number: int) -> float:
    """Resident memory of a process in MB, 0 if it is gone."""
    with contextlib.suppress(OSError):
        pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    return 0.0


if __name__ == "__main__":
    main()
