"""A Python process that answers lines of input with lines of JSON, and may stop or hang."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


class BenchmarkError(Exception):
    """A system could not be measured; the message names it and quotes its last output."""


class LateError(BenchmarkError):
    """A process gave no answer in its time."""


class LineProcess:
    """A module that runs in a process group of its own; its standard error goes to a file.

    Args:
        name: its name in messages.
        module: the module to run.
        arguments: its arguments.
        log: the file for its standard error.
        environment: further environment variables.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def tell(self, line: str) -> None:
        """Write a line to the process; what a process that has stopped missed is found later."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def answer(self, limit: float | None = None) -> dict[str, Any]:
        """Return the next answer.

        Args:
            limit: seconds to wait; None waits until the process answers or stops.

        Raises:
            LateError: it took too long.
            BenchmarkError: the process stopped.
        """
        assert self._process.stdout is not None
        if limit is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                # An answer is one line, so nothing of the next one is in Python's buffer.
                if not selector.select(max(0.0, limit)):
                    raise LateError(
                        f"{self.name} gave no answer within {limit:.0f} s{self._quoted()}"
                    )
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.name} stopped{self._quoted()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def last_words(self, lines: int) -> list[str]:
        """Return the last lines of the process's standard error."""
        return self._log.read_text(errors="replace").strip().splitlines()[-lines:]

    def _quoted(self) -> str:
        words = self.last_words(3)
        return f": {' | '.join(words)}" if words else ""

    def close(self) -> None:
        """End the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
