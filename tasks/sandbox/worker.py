"""The owner's side of a box: starts it, sends programs, reads answers, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .box import guard, wire
from .program import Form, Limits, Program
from .settings import box_settings, bubblewrap_command

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from box.launcher import main; "
    "main(int(sys.argv[2]))"
)
_BOOT_THROUGH = (
    "import sys; sys.path.insert(0, sys.argv[1]); from box.launcher import through; "
    "through(int(sys.argv[2]), sys.argv[3], sys.argv[4:])"
)
_OPTIONS = ("-S", "-s", "-P", "-X", "utf8", "-c")
_START_SECONDS = 60.0


class BoxError(Exception):
    """A box could not be started, or ended by itself."""


@dataclass
class Task:
    """A program on its way through the pool.

    Attributes:
        program: the program to run.
        place: its index among all programs.
        seconds: its time limit.
        form: the next form to run it in.
        deaths: number of boxes that ended while running it.
    """

    program: Program
    place: int
    seconds: float
    form: Form = "fast"
    deaths: int = 0


@dataclass
class Answer:
    """A box's report on a task."""

    task: Task
    outcome: str
    detail: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass
class Worker:
    """A box and its tasks.

    Args:
        tier: the isolation.
        limits: the limits of programs.
    """

    tier: str
    limits: Limits
    tasks: deque[Task] = field(default_factory=deque)
    since: float = 0.0
    """Start time of the first task, on the pool's clock."""

    def __post_init__(self) -> None:
        self._out = bytearray()
        self._in = bytearray()
        self._number = 0
        self._numbers: deque[int] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self._preloaded: set[str] = set()
        self.socket: socket.socket | None = None
        self.process_id = 0
        self.ends_by_itself = False

    def start(self) -> None:
        """Start the box and wait until it is ready.

        Raises:
            BoxError: this machine does not allow it; the message names the step.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the box without waiting for it.

        Raises:
            BoxError: not even its first process could be started.
        """
        if self.tier not in ("namespaces", "bubblewrap"):
            try:
                self._scratch = tempfile.mkdtemp(prefix="box-", dir=_temporary_folder())
            except OSError as error:
                raise BoxError(f"no folder for its programs: {error}") from None
        ours, theirs = socket.socketpair()
        self.socket = ours
        try:
            settings = box_settings(self.tier, self.limits, self._scratch)
            if self._scratch and os.geteuid() == 0 and self.tier == "landlock":
                os.chown(self._scratch, settings["user"], settings["user"])
            self._execute(settings, theirs)
            ours.settimeout(_START_SECONDS)
            wire.send_json(ours, settings)
        except OSError as error:
            self.stop()
            raise BoxError(str(error)) from None
        finally:
            theirs.close()

    def wait_until_ready(self) -> None:
        """Wait for the box that `launch` started.

        Raises:
            BoxError: this machine does not allow it; the message names the step.
        """
        assert self.socket is not None
        try:
            answer = wire.receive_json(self.socket)
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise BoxError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        if "error" in answer:
            self.stop()
            raise BoxError(answer["error"])
        self.socket.setblocking(False)

    def _execute(self, settings: dict[str, Any], channel: socket.socket) -> None:
        here, number = str(Path(__file__).parent), str(channel.fileno())
        command = [sys.executable, *_OPTIONS, _BOOT, here, number]
        if self.tier == "bubblewrap":
            inner = [str(Path(sys.executable).resolve()), *_OPTIONS, _BOOT, "/sandbox", number]
            whole = [*bubblewrap_command(settings), "--", *inner]
            who = [str(settings["user"]), sys.base_prefix]
            command = [sys.executable, *_OPTIONS, _BOOT_THROUGH, here, *who, *whole]
        # A fixed seed, because the order of sets must not affect a verdict.
        environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=(channel.fileno(),),
            start_new_session=True,
        )
        self.process_id = self._process.pid

    def stop(self) -> None:
        """End the box at once, with everything in it; the tasks stay listed."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._out.clear()
        self._in.clear()
        self._numbers.clear()
        self._preloaded.clear()
        self.ends_by_itself = False
        if self._scratch:
            _remove(self._scratch)
            self._scratch = ""

    def give(self, task: Task) -> None:
        """Append a task to the queue."""
        program = task.program
        candidate = wire.text_bytes(program.candidate)
        tests = wire.text_bytes(program.tests)
        settings: dict[str, Any] = {}
        prompt = b""
        if task.form == "strict":
            prompt = wire.text_bytes(program.prompt)
            settings = {"entry_points": program.entry_points, "prompt_size": len(prompt)}
        if modules := [name for name in named_modules(program) if name not in self._preloaded]:
            settings["modules"] = modules
            self._preloaded.update(modules)
        data = json.dumps(settings).encode() if settings else b""
        self._number += 1
        head = wire.REQUEST.pack(
            wire.FAST if task.form == "fast" else wire.STRICT,
            self._number,
            task.seconds,
            len(data),
            len(candidate),
            len(tests),
        )
        self._numbers.append(self._number)
        self.tasks.append(task)
        self._out += b"".join((head, data, candidate, tests, prompt))
        self.send()

    @property
    def wants_to_send(self) -> bool:
        """Whether there is data to send."""
        return bool(self._out)

    def send(self) -> None:
        """Send as much as the socket accepts now."""
        if self.socket is None:
            return
        with contextlib.suppress(BlockingIOError, OSError):
            while self._out:
                # After a failed send, reading the answers reports the end of the stream.
                sent = self.socket.send(bytes(self._out[: 1 << 18]))
                del self._out[:sent]

    def answers(self) -> list[Answer]:
        """Return the answers that have arrived, without waiting.

        Raises:
            BoxError: the box has ended, and no answers are left to read.
        """
        ended = self._read()
        found = []
        size = wire.REPLY.size
        while len(self._in) >= size:
            number, outcome, seconds, cpu, peak, length = wire.REPLY.unpack_from(self._in)
            if len(self._in) < size + length:
                break
            detail = bytes(self._in[size : size + length]).decode("utf-8", "replace")
            del self._in[: size + length]
            if not self._numbers or number != self._numbers.popleft():
                raise BoxError("the box answered out of turn")
            task = self.tasks.popleft()
            self.ends_by_itself = bool(outcome & wire.LAST)
            name = wire.OUTCOMES[outcome & ~wire.LAST]
            found.append(Answer(task, name, detail, seconds, cpu, peak))
        if ended and not found:
            raise BoxError("the box has ended")
        return found

    def _read(self) -> bool:
        if self.socket is None:
            return True
        try:
            while data := self.socket.recv(1 << 16):
                self._in += data
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def named_modules(program: Program) -> list[str]:
    """Return the modules that a program seems to import and that should be preloaded."""
    text = program.candidate + program.tests
    return [name for name in guard.PRELOADABLE if name in text and _imports(text, name)]


def _imports(text: str, name: str) -> bool:
    return f"import {name}" in text or f"from {name}" in text


def _temporary_folder() -> str:
    """Return the folder for temporary files; as root, one that an ordinary user can enter."""
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(place).resolve()
        if os.geteuid() != 0 or all(p.stat().st_mode & 0o001 for p in (path, *path.parents)):
            return place
    return tempfile.gettempdir()


def _remove(folder: str) -> None:
    """Remove a folder in which a program may have created folders without permissions."""

    def opened_up(function: Any, path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            function(path)

    for _ in range(3):
        shutil.rmtree(folder, onerror=opened_up)
        if not Path(folder).exists():
            return
