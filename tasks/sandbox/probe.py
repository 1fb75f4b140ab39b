"""Tests whether a tier works: its box must judge two programs correctly."""

from __future__ import annotations

import select
import time

from .program import Limits, Program
from .worker import BoxError, Task, Worker

# Passes only if the tier keeps its promises: user files are hidden, there is no network and no
# further process, and there is a folder to write to.
_CANARY = """
import os, posix, socket

def refused(what, *arguments):
    try:
        what(*arguments)
    except OSError:
        return True
    return False

def isolated():
    open("note", "w").close()
    return [
        posix.getuid() != 0,
        refused(socket.socket),
        refused(posix.fork),
        refused(posix.execv, "/bin/true", ["true"]),
        refused(posix.kill, posix.getppid(), 0),
        refused(posix.listdir, "/home") and refused(posix.listdir, "/proc/1/"),
    ]
"""
_TESTS = "assert isolated() == [True] * 6, isolated()"


def trouble(tier: str) -> str:
    """Return why a tier cannot be used on this machine, or an empty text if it can."""
    worker = Worker(tier, Limits(packages=()))
    try:
        worker.start()
        right = _verdict(worker, Program("right", _CANARY, _TESTS))
        wrong = _verdict(worker, Program("wrong", "answer = 1", "assert answer == 2"))
    except BoxError as error:
        return str(error)
    finally:
        worker.stop()
    if right != "passed":
        return f"its isolation does not hold ({right})"
    return "" if wrong.startswith("failed") else "it judges wrongly"


def _verdict(worker: Worker, program: Program) -> str:
    """Return the outcome of a program on a started worker, with its detail unless it passed."""
    worker.give(Task(program, 0, 10.0, form="strict"))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and worker.socket is not None:
        select.select([worker.socket], [], [], 1.0)
        for answer in worker.answers():
            return (
                answer.outcome
                if answer.outcome == "passed"
                else (f"{answer.outcome}: {answer.detail}")
            )
    raise BoxError("the box does not answer")
