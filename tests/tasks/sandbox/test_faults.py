"""What goes wrong around the boxes: no verdict is lost, none counted twice, nothing stays."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsepo.errors import UserError
from tasks.sandbox import UNPROTECTED, Limits, Program, choose_tier, run_programs
from tasks.sandbox.pool import Pool
from tasks.sandbox.worker import BoxError, Worker
from tests.tasks.sandbox import battery
from tests.tiny_disk import tiny_disk

ROOT = Path(__file__).resolve().parents[3]
FEW = Limits(packages=())


def programs(count: int) -> Iterator[Program]:
    for number in range(count):
        yield Program(str(number), f"def f(): return {number % 3}", "assert f() != 2")


def outcomes(count: int) -> list[tuple[str, str]]:
    return [(str(n), "failed" if n % 3 == 2 else "passed") for n in range(count)]


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.parametrize("victim", ["launcher", "first process"])
def test_a_killed_box_loses_no_verdict(victim: str) -> None:
    pool = Pool(choose_tier(), 2, FEW)
    found = []
    for verdict in pool.run(programs(120)):
        found.append((verdict.id, verdict.outcome))
        if len(found) in (20, 60):
            target = pool.workers[len(found) // 60].process_id
            inner = children(target)
            os.kill(inner[0] if victim == "first process" and inner else target, signal.SIGKILL)
    assert found == outcomes(120)


def test_a_program_that_ends_its_box_is_refused_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fatal(worker: Worker) -> list[object]:
        if worker.tasks and worker.tasks[0].program.id == "3":
            raise BoxError("the box has ended")
        return answers(worker)  # type: ignore[return-value]

    answers = Worker.answers
    monkeypatch.setattr(Worker, "answers", fatal)
    found = [(v.id, v.outcome) for v in run_programs(programs(8), workers=2, limits=FEW)]
    assert found == [(n, "refused" if n == "3" else o) for n, o in outcomes(8)]


RUN = """
import sys
from tests.tasks.sandbox.test_faults import FEW, programs
from tasks.sandbox import run_programs
for verdict in run_programs(programs(100_000), workers=2, limits=FEW):
    print(verdict.id, flush=True)
"""


def test_a_killed_pool_leaves_nothing() -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "0\n"
    boxes = {n for n in battery.processes() if run.pid in ancestors(n)} - {run.pid}
    assert len(boxes) >= 2
    run.kill()
    run.wait()
    while any(is_box(n) for n in boxes):  # ends, or the suite's own time limit does
        time.sleep(0.05)


def ancestors(number: int) -> set[int]:
    found = set()
    while number > 1 and number not in found:
        found.add(number)
        number = battery._parent(number)
    return found


def is_box(number: int) -> bool:
    with contextlib.suppress(OSError):
        return b"box.launcher" in Path(f"/proc/{number}/cmdline").read_bytes()
    return False


def test_two_runs_at_once_do_not_disturb_each_other() -> None:
    first = run_programs(programs(60), workers=2, limits=FEW)
    second = run_programs(programs(60), workers=2, limits=FEW)
    pairs = [((a.id, a.outcome), (b.id, b.outcome)) for a, b in zip(first, second, strict=True)]
    assert pairs == [(o, o) for o in outcomes(60)]


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: random.uniform(0, 1e10))
    found = [(v.id, v.outcome) for v in run_programs(programs(12), workers=2, limits=FEW)]
    assert found == outcomes(12)


WRITING = [
    Program("plain", "def f(): return 1", "assert f() == 1"),
    Program("writes", "def f(): open('x', 'w').write('y' * 100_000)", "f()"),
    Program("after", "def f(): return 1", "assert f() == 1"),
    Program("wrong", "def f(): return 2", "assert f() == 1"),
]


def test_a_full_disk_costs_no_verdict(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where boxes write to the disk, what needs it is refused; others do not notice."""
    with (
        # Below /tmp itself: pytest's own folders are closed to the user that boxes run as.
        tempfile.TemporaryDirectory(dir="/tmp") as place,
        tiny_disk(Path(place) / "disk", 64) as disk,
    ):
        Path(place).chmod(0o755)
        with contextlib.suppress(OSError):
            (disk / "rest").write_bytes(b"x" * 100_000)
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        found = {v.id: v.outcome for v in run_programs(WRITING, workers=1, limits=FEW, tier=tier)}
        left = [path.name for path in disk.iterdir()]
    writes = "refused" if tier == "landlock" else "passed"
    assert found == {"plain": "passed", "writes": writes, "after": "passed", "wrong": "failed"}
    assert left == ["rest"]


def test_no_place_for_a_box_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(UserError, match="No space left on device"):
        list(run_programs(WRITING, workers=1, limits=FEW, tier=UNPROTECTED))


def test_boxes_that_cannot_be_started_again_end_the_run_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(choose_tier(), 1, FEW)
    verdicts = pool.run(programs(100))
    next(verdicts)

    def refuse(worker: Worker) -> None:
        raise BoxError("unshare: no space left")

    monkeypatch.setattr(Worker, "launch", refuse)
    os.kill(pool.workers[0].process_id, signal.SIGKILL)
    with pytest.raises(UserError, match="no space left"):
        list(verdicts)


def test_closing_the_iterator_ends_the_boxes() -> None:
    before = battery.descendants()
    verdicts = run_programs(programs(1000), workers=2, limits=FEW)
    next(verdicts)
    assert battery.descendants() > before
    verdicts.close()  # type: ignore[attr-defined]
    assert not any(is_box(n) for n in battery.descendants() - before)
