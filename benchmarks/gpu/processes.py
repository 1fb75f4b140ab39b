"""The processes in which checks and tests run, apart from the command and from each other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.process import REPOSITORY, BenchmarkError, LateError, LineProcess

START_LIMIT = 120.0
"""Seconds for a process to start: its libraries may come from a slow disk."""


class Checks:
    """The process that runs checks; one that stops or hangs is replaced by another.

    Args:
        device: "cpu" or "cuda".
        small: whether sizes are reduced.
        folder: for logs; no other Checks may use it.
        environment: further environment variables.
    """

    def __init__(self, device: str, small: bool, folder: Path, environment: dict[str, str]) -> None:
        self._device, self._small = device, small
        self._folder, self._environment = folder, environment
        self._process: LineProcess | None = None
        self._closed = False
        self.starts = 0
        """How many processes have been started."""
        self.machine: dict[str, Any] | None = None
        """What the process has told of the GPU; None until it is ready."""

    def start(self) -> None:
        """Start a process, without waiting for it."""
        self._end()
        if self._closed:
            return
        self.starts += 1
        log = self._folder / f"checks-{self.starts}.log"
        self._process = LineProcess(
            "the check", "benchmarks.gpu.worker", [], log, self._environment
        )
        self.machine = None

    def ready(self, limit: float) -> dict[str, Any]:
        """Wait until the process is ready; return what it tells of the machine.

        Args:
            limit: seconds to wait.

        Raises:
            BenchmarkError: it stopped, or took too long.
        """
        if self._process is None:
            self.start()
        if self._process is None:
            raise BenchmarkError("the run was ended")
        if self.machine is None:
            self.machine = self._process.answer(limit)
        return self.machine

    def run(self, check: str, limit: float) -> dict[str, Any]:
        """Run a check; return its verdict, text and figures, and whether it was `late`.

        Args:
            check: module:function.
            limit: seconds, after which the process is ended.
        """
        deadline = time.monotonic() + limit
        try:
            self.ready(min(START_LIMIT, limit))
            process = self._process
            assert process is not None
            left = max(1.0, deadline - time.monotonic())
            request = {
                "check": check,
                "device": self._device,
                "small": self._small,
                "seconds": left,
            }
            process.tell(json.dumps(request))
            answer = process.answer(left)
            if answer["ended"]:
                # It cannot use the device any more.
                self.start()
            return answer
        except BenchmarkError as error:
            process = self._process
            words = [] if process is None else process.last_words(30)
            # The next check gets a new process.
            self.start()
            return {
                "verdict": "failed",
                "text": str(error),
                "figures": {},
                "traceback": words,
                "late": isinstance(error, LateError),
            }

    def close(self) -> None:
        """End the process, for good."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()


class Suite:
    """The tests of the suite that need a GPU, in a process of their own beside the checks.

    Args:
        folder: for the output.
        environment: further environment variables.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._started = time.monotonic()
        self._log = folder / "tests.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.reason = ""
        """Why it does not run; empty if it does."""
        files = marked_tests()
        if find_spec("pytest") is None:
            self.reason = "pytest is not installed"
        elif not files:
            self.reason = "there is no folder tests beside benchmarks"
        else:
            command = [sys.executable, "-m", "pytest", "-o", "addopts=", "--import-mode=importlib"]
            command += ["-p", "no:cacheprovider", "-v", "-m", "gpu", *files]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    cwd=REPOSITORY,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )

    def finish(self, limit: float) -> dict[str, Any]:
        """Wait for the tests; return verdict, text and figures.

        Args:
            limit: seconds to wait; tests that were not reached then are counted as such.
        """
        if self._process is None:
            return {"verdict": "not run", "text": self.reason, "figures": {}}
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit)
        ended = self._process.poll() is not None
        self.close()
        output = self._log.read_text(errors="replace")
        return {**outcome_of(output, ended=ended), "traceback": output.splitlines()[-30:]}

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def marked_tests() -> list[str]:
    """Return the files with tests that are marked as needing a GPU, relative to the repository."""
    return sorted(
        str(file.relative_to(REPOSITORY))
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        if re.search(r"^@pytest\.mark\.gpu", file.read_text(), flags=re.MULTILINE)
    )


def outcome_of(output: str, *, ended: bool = True) -> dict[str, Any]:
    """Return verdict, text and figures of the tests.

    Args:
        output: what pytest wrote.
        ended: whether it had ended by itself.
    """
    counts = {
        word.lower(): len(re.findall(rf"^\S*::.* {word}\b", output, flags=re.MULTILINE))
        for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")
    }
    selected = re.search(r"(\d+) selected", output) or re.search(r"collected (\d+) item", output)
    total = int(selected[1]) if selected else 0
    unreached = max(0, total - sum(counts.values()))
    text = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    if unreached:
        text += f"{', ' if text else ''}{unreached} not reached"
    if not ended and not total:
        return {"verdict": "not run", "text": "none was reached in the time", "figures": counts}
    if not total or re.search(r"errors? during collection", output):
        words = output.strip().splitlines()[-1:] or ["pytest wrote nothing"]
        return {"verdict": "failed", "text": words[0], "figures": counts}
    failed = counts["failed"] + counts["error"]
    verdict = "failed" if failed else "passed" if counts["passed"] else "not run"
    return {"verdict": verdict, "text": text, "figures": counts}
