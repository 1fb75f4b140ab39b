"""Direct calls into libc and the kernel, which raise an OSError with their name on failure."""

from __future__ import annotations

import ctypes
import os
import platform

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
# PyDLL keeps the interpreter's lock: forking a single-threaded process without Python's own at-fork
# handlers touches fewer pages. As a result `random` is not reseeded: every program starts from the
# same state, which makes verdicts repeatable.
_fork = ctypes.PyDLL(None, use_errno=True).fork
_fork.restype = ctypes.c_int

MACHINE = platform.machine()

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47


def fork() -> int:
    """Fork a single-threaded process; return 0 in the child and its id in the parent.

    Raises:
        OSError: no further process could be made.
    """
    pid: int = _fork()
    if pid < 0:
        raise refused("fork")
    return pid


def refused(what: str) -> OSError:
    """Return an OSError for the call that has just failed."""
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


def checked(what: str, result: int) -> int:
    """Return `result`, or raise an OSError if it indicates that the call `what` failed."""
    if result < 0:
        raise refused(what)
    return result


def prctl(option: int, value: int = 0, third: object = 0, fourth: int = 0, fifth: int = 0) -> int:
    """Change a property of this process; the manual page has the options.

    Raises:
        OSError: the kernel refused.
    """
    pointer = third if isinstance(third, int) else ctypes.cast(third, ctypes.c_void_p)  # type: ignore[arg-type]
    arguments = [
        ctypes.c_ulong(value),
        ctypes.c_ulong(pointer) if isinstance(pointer, int) else pointer,
        ctypes.c_ulong(fourth),
        ctypes.c_ulong(fifth),
    ]
    return checked(f"prctl({option})", libc.prctl(option, *arguments))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    prctl(PR_SET_PDEATHSIG, 9)


def drop_capabilities() -> None:
    """Give up all capabilities permanently, and the possibility to gain one through exec.

    Raises:
        OSError: the kernel refused.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    for number in range(64):
        if libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0:
            # Past the last capability, or not ours to drop: with no new privileges the
            # bounding set matters no more.
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    checked("capset", libc.capset(header, data))
