"""The size of files that a process holds open although they have no name.

A file that was unlinked, or created with O_TMPFILE, appears in no folder and uses the disk until
its last descriptor is closed. The process that forked the holder may take a copy of each descriptor
to look at it; Landlock, which closes /proc to it, allows that.
"""

from __future__ import annotations

import ctypes
import posix
import stat

from .syscalls import libc

PIDFD_OPEN, PIDFD_GETFD = 434, 438
"""Numbers of the system calls, the same on every architecture."""

INODE_BYTES = 1024
"""Charged for each file besides its blocks."""


def unnamed_bytes(pid: int, device: int, descriptors: int) -> int:
    """Return how much of a file system the files without a name take up that a process holds open.

    Args:
        pid: a child of this process; 0 bytes if it has ended, or the kernel shows its descriptors
            to no one (Yama's ptrace_scope of 2 or 3).
        device: the file system's number (st_dev).
        descriptors: the process's limit of open files.
    """
    zero = ctypes.c_uint(0)
    process = libc.syscall(ctypes.c_long(PIDFD_OPEN), ctypes.c_int(pid), zero)
    if process < 0:
        return 0
    sizes: dict[int, int] = {}
    getfd, handle = ctypes.c_long(PIDFD_GETFD), ctypes.c_int(process)
    try:
        for number in range(descriptors):
            copy = libc.syscall(getfd, handle, ctypes.c_int(number), zero)
            if copy < 0:
                continue
            found = posix.fstat(copy)
            posix.close(copy)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and found.st_dev == device:
                sizes[found.st_ino] = found.st_blocks * 512 + INODE_BYTES
    finally:
        posix.close(process)
    return sum(sizes.values())
