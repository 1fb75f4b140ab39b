"""Landlock: restricts the files that a process can access, where namespaces are not allowed.

It does not cover chmod, chown, times and extended attributes (the seccomp filter refuses those),
nor the size of written files (`scratch.Scratch` monitors it, with the help of /proc, which the
first process of a box may therefore read and programs may not).
"""

from __future__ import annotations

import ctypes
import os
import posix
import struct
from collections.abc import Iterable

from .syscalls import checked, libc, refused

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR, _WRITE_FILE, _TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
_LAST_FILE_RIGHT = {1: 12, 2: 13, 3: 14, 4: 14, 5: 15}


def abi() -> int:
    """Return the kernel's version of Landlock, or 0 if it has none."""
    version: int = libc.syscall(ctypes.c_long(_CREATE), None, ctypes.c_ulong(0), ctypes.c_ulong(1))
    return max(version, 0)


class Rules:
    """The paths that a process and its children will be confined to.

    Args:
        readable: files and folders that may be read.
        devices: files that may be read and written.
        scratch: the only folder in which files may be created.

    Raises:
        OSError: no Landlock in this kernel, or a path cannot be opened.
    """

    def __init__(self, readable: Iterable[str], devices: Iterable[str], scratch: str) -> None:
        version = abi()
        if version < 1:
            raise OSError("Landlock is not available in this kernel")
        every = (1 << (_LAST_FILE_RIGHT.get(version, 15) + 1)) - 1
        network = 3 if version >= 4 else 0
        scoped = 3 if version >= 6 else 0
        attributes = struct.pack("=QQQ", every, network, scoped)
        size = 8 if version < 4 else 16 if version < 6 else 24
        self._ruleset: int = libc.syscall(
            ctypes.c_long(_CREATE), attributes, ctypes.c_ulong(size), ctypes.c_ulong(0)
        )
        if self._ruleset < 0:
            raise refused("landlock_create_ruleset")
        for path in readable:
            _allow(self._ruleset, path, _READ_FILE | _READ_DIR)
        for path in devices:
            _allow(self._ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & every)
        # Everything in the scratch folder except executing programs and creating device nodes.
        _allow(self._ruleset, scratch, every & ~(1 << 0) & ~(1 << 6) & ~(1 << 11) & ~(1 << 15))

    def lay(self) -> None:
        """Confine this process and its children permanently.

        Raises:
            OSError: new privileges were not given up before.
        """
        checked(
            "landlock_restrict_self",
            libc.syscall(ctypes.c_long(_RESTRICT), ctypes.c_long(self._ruleset), ctypes.c_ulong(0)),
        )
        posix.close(self._ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= ~_READ_DIR
    rule = struct.pack("=Qi", rights, opened)
    checked(
        f"landlock_add_rule {path}",
        libc.syscall(
            ctypes.c_long(_ADD), ctypes.c_long(ruleset), ctypes.c_long(1), rule, ctypes.c_ulong(0)
        ),
    )
    os.close(opened)
