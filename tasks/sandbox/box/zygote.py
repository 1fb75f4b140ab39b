"""The first process of a box: forks one child per program, watches it, and reports."""

from __future__ import annotations

import errno
import json
import os
import posix
import resource  # noqa: F401 - os.wait4 looks for it at each call
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from . import fast, guard, landlock, seccomp, strict, wire
from .scratch import Scratch
from .syscalls import die_with_parent, fork

_LETTERS = {
    b"P": wire.PASSED,
    b"F": wire.FAILED,
    b"M": wire.MEMORY,
    b"U": wire.UNSUPPORTED,
    b"X": wire.FAILED,
}
_DISK_FULL = f"OSError: [Errno {errno.ENOSPC}]"


@dataclass
class Job:
    """One program to run."""

    form: int
    number: int
    seconds: float
    settings: dict[str, Any]
    candidate_size: int
    tests_size: int


@dataclass
class Report:
    """What came of it."""

    outcome: int
    detail: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


class Zygote:
    """Serves programs until its owner ends.

    Args:
        channel: the socket to the owner.
        box: the settings.
        scratch: the writable folder, which is also the working directory.
        rules: the files that programs can access, if that is less than this process can.
    """

    def __init__(
        self,
        channel: socket.socket,
        box: dict[str, Any],
        scratch: Scratch,
        rules: landlock.Rules | None = None,
    ) -> None:
        self.channel = channel
        self.box = box
        self.scratch = scratch
        self.rules = rules
        self.filter: seccomp.ProgramFilter | None = None
        if box["seccomp"]:
            self.filter = seccomp.ProgramFilter(guard_files=box["tier"] == "landlock")

    def serve(self) -> NoReturn:
        """Take jobs and answer them, one after the other; never returns."""
        try:
            while True:
                job = self._next_job()
                report = self._run(job)
                try:
                    self.scratch.clean()
                except OSError:
                    # Files of a program cannot be removed, so this box cannot run another program.
                    self._answer(job, report, wire.LAST)
                    posix._exit(0)
                self._answer(job, report, 0)
        except (EOFError, OSError):
            posix._exit(0)

    def _answer(self, job: Job, report: Report, last: int) -> None:
        detail = report.detail.encode("utf-8", "backslashreplace")[: wire.DETAIL_BYTES]
        header = wire.REPLY.pack(
            job.number,
            report.outcome | last,
            report.seconds,
            report.cpu_seconds,
            report.peak_bytes,
            len(detail),
        )
        self.channel.sendall(header + detail)

    def _next_job(self) -> Job:
        head = wire.receive(self.channel, wire.REQUEST.size)
        form, number, seconds, settings_size, candidate_size, tests_size = wire.REQUEST.unpack(head)
        settings = {}
        if settings_size:
            settings = json.loads(wire.receive(self.channel, settings_size))
        if wanted := settings.get("modules"):
            guard.preload([name for name in wanted if name in guard.PRELOADABLE])
        return Job(form, number, seconds, settings, candidate_size, tests_size)

    def _run(self, job: Job) -> Report:
        start = time.monotonic()
        nonce = os.urandom(16)
        if job.form == wire.FAST:
            result, pids = self._start_fast(job, nonce)
        else:
            result, pids = self._start_strict(job, nonce)
        data, timed_out, over_quota = self._watch(result, pids, start + job.seconds)
        posix.close(result)
        for pid in pids:
            posix.kill(pid, signal.SIGKILL)
        statuses, cpu, peak = [], 0.0, 0
        for pid in pids:
            _, status, usage = os.wait4(pid, 0)
            statuses.append(status)
            cpu += usage.ru_utime + usage.ru_stime
            peak += usage.ru_maxrss * 1024
        if self.box["own_processes"]:
            _end_all()
        report = _judged(data, nonce, timed_out, over_quota, statuses[-1])
        if self.scratch.quota_bytes and report.detail.startswith(_DISK_FULL):
            # The machine's disk is full; below the quota this is not caused by the program.
            report = Report(wire.REFUSED, "the disk of its scratch folder is full")
        report.seconds = time.monotonic() - start
        report.cpu_seconds, report.peak_bytes = cpu, peak
        return report

    def _watch(self, result: int, pids: list[int], deadline: float) -> tuple[bytes, bool, bool]:
        """Wait until a verdict arrives, its writer ends or the deadline passes.

        The writer of a verdict waits to be killed, so its files still exist at the last look.

        Returns:
            What was written, whether the deadline has passed, and whether the files are too large.

        Raises:
            EOFError: the owner is gone.
        """
        watched = select.poll()
        watched.register(result, select.POLLIN)
        watched.register(self.channel, select.POLLRDHUP)
        pause = 0.02 if self.scratch.quota_bytes else 3600.0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return b"", True, False
            for number, event in watched.poll(1000 * min(left, pause) + 1):
                if number != result:
                    # The owner is gone; ending this process also ends everything that it started.
                    if self.box["own_processes"]:
                        posix._exit(0)
                    raise EOFError
                data = posix.read(result, 4096) if event & select.POLLIN else b""
                return data, False, self.scratch.over_quota(pids, only_after_writes=True)
            if self.scratch.over_quota(pids):
                return b"", False, True

    def _start_fast(self, job: Job, nonce: bytes) -> tuple[int, list[int]]:
        result, verdict = os.pipe()
        pid = fork()
        if pid == 0:
            try:
                posix.close(result)
                candidate = self._text(job.candidate_size)
                tests = self._text(job.tests_size)
                self._confine()
                fast.run(candidate, tests, nonce, verdict)
            finally:
                posix._exit(0)
        posix.close(verdict)
        return result, [pid]

    def _start_strict(self, job: Job, nonce: bytes) -> tuple[int, list[int]]:
        """Fork the candidate, then the tests; each reads its own part of the job.

        The candidate's process is created before the verdict's pipe and before any process reads
        the tests, so neither is in its memory.
        """
        ours, theirs = socket.socketpair()
        ready, read = os.pipe()
        candidate_pid = fork()
        if candidate_pid == 0:
            try:
                ours.close()
                posix.close(ready)
                candidate = self._text(job.candidate_size)
                self._confine()
                posix.write(read, b"R")
                posix.close(read)
                strict.run_candidate(candidate, theirs)
            finally:
                posix._exit(0)
        theirs.close()
        posix.close(read)
        posix.read(ready, 1)
        posix.close(ready)
        result, verdict = os.pipe()
        tests_pid = fork()
        if tests_pid == 0:
            try:
                posix.close(result)
                tests = self._text(job.tests_size)
                prompt = self._text(job.settings.get("prompt_size", 0))
                self._confine()
                points = job.settings.get("entry_points", [])
                strict.run_tests(prompt, tests, points, ours, nonce, verdict)
            finally:
                posix._exit(0)
        posix.close(verdict)
        ours.close()
        return result, [candidate_pid, tests_pid]

    def _text(self, size: int) -> str:
        return wire.bytes_text(wire.receive(self.channel, size))

    def _confine(self) -> None:
        """Turn this fork into a program's process, without access to its owner or new processes."""
        self.channel.close()
        guard.null_own_modules()
        if not self.box["own_processes"]:
            die_with_parent()
        if self.rules is not None:
            self.rules.lay()
        if self.filter is not None:
            self.filter.install(posix.getpid())


def _end_all() -> None:
    """Kill and reap any other process in this box; there should be none."""
    try:
        posix.kill(-1, signal.SIGKILL)
        while posix.waitpid(-1, 0)[0]:
            pass
    except OSError:
        return


def _judged(data: bytes, nonce: bytes, timed_out: bool, over_quota: bool, status: int) -> Report:
    if over_quota:
        return Report(wire.FAILED, "wrote more than the scratch folder may hold")
    if timed_out:
        return Report(wire.TIMEOUT, "")
    if data[:16] == nonce and data[16:17] in _LETTERS:
        detail = data[17:].decode("utf-8", "replace")
        return Report(_LETTERS[data[16:17]], detail)
    if data:
        return Report(wire.FAILED, "wrote into the channel of its verdict")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        name = signal.Signals(os.WTERMSIG(status)).name
        return Report(wire.FAILED, f"crashed: {name}")
    return Report(wire.FAILED, "ended before its tests did")
