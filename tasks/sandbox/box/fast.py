"""The fast form: candidate and tests in one process, with a nonce after the last test.

Both share an interpreter, in which a malicious candidate can forge a pass. A pass of this form
therefore counts only after the strict form has confirmed it.
"""

from __future__ import annotations

import errno
import posix
import signal
from types import TracebackType

from .wire import DETAIL_BYTES

CANDIDATE, TESTS = "<candidate>", "<tests>"


def run(candidate: str, tests: str, nonce: bytes, result: int) -> None:
    """Run a program and write its verdict to the descriptor `result`; never returns.

    Args:
        candidate: the model's program.
        tests: trusted code, run in the same namespace after it.
        nonce: must precede the verdict.
        result: descriptor for the verdict.
    """
    # Local names, because the program can replace global ones before they are needed.
    write, leave, base, tell = posix.write, posix._exit, BaseException, describe
    wait = signal.pause
    try:
        try:
            names: dict[str, object] = {}
            exec(compile(candidate, CANDIDATE, "exec", dont_inherit=True), names)
            exec(compile(tests, TESTS, "exec", dont_inherit=True), names)
            write(result, nonce + b"P")
        except base as error:
            write(result, nonce + tell(error, tests))
        wait()  # to be killed, because what it has written is measured before it ends
    finally:
        leave(0)


def describe(error: BaseException, tests: str) -> bytes:
    """Return the verdict for an exception: F or M, then the error's last line."""
    kind = b"F"
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        kind = b"M"
    try:
        return kind + last_line(error, tests).encode("utf-8", "backslashreplace")[:DETAIL_BYTES]
    except MemoryError:
        return b"MMemoryError"
    except BaseException:
        return kind + type(error).__name__.encode("utf-8", "backslashreplace")[:DETAIL_BYTES]


def last_line(error: BaseException, tests: str) -> str:
    """Return an error's last line, as the interpreter would print it.

    A bare AssertionError from the tests is followed by the line of the tests that raised it.
    """
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "<exception str() failed>"
    lines = text[-4 * DETAIL_BYTES :].strip().splitlines()
    if isinstance(error, SyntaxError) and error.msg:
        lines = [str(error.msg)]
    if not lines and isinstance(error, AssertionError):
        line = _test_line(error.__traceback__, tests)
        lines = [line] if line else []
    return f"{name}: {lines[-1]}" if lines else name


def _test_line(trace: TracebackType | None, tests: str) -> str:
    number = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == TESTS:
            number = trace.tb_lineno
        trace = trace.tb_next
    lines = tests.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""
