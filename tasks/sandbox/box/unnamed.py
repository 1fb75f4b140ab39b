"""The files that a process holds although they no longer have a name, as /proc shows them.

A file that was unlinked, or created with O_TMPFILE, occupies the disk until its last descriptor and
its last mapping are gone, and no folder lists it. A program's threads share their descriptors, and
descriptors cannot be hidden in a socket (`seccomp.program_filter`), so any thread shows them all.
"""

from __future__ import annotations

import posix
import stat

INODE_BYTES = 1024  # charged for each file in addition to its blocks


def unnamed_bytes(pid: int, folder: str, hidden_bytes: int) -> int:
    """Return how many bytes of disk a process's files without a name occupy.

    Args:
        pid: a process of this user; if it has ended, it holds nothing.
        folder: the scratch folder, without symbolic links.
        hidden_bytes: charged for each file of that folder that is mapped but no longer open; the
            kernel does not show its size.
    """
    for thread in _threads(pid):
        try:
            mapped = _mapped(thread, folder)
            held = _open(thread)
            # Only a file that is mapped before and after the descriptors were read, and is not
            # among them, is hidden. Others were opened or unmapped in the meantime.
            hidden = mapped - held.keys()
            if hidden:
                hidden &= _mapped(thread, folder)
        except OSError:  # this thread has ended, but others may continue
            continue
        return sum(held.values()) + hidden_bytes * len(hidden)
    return 0


def written_bytes(pid: int) -> int:
    """Return how many bytes a process has written so far, at least as many as its files occupy.

    This is the maximum of the bytes passed to write calls and of the pages changed on a disk; the
    pages of a mapped file in memory (tmpfs) are in neither.
    """
    try:
        lines = _read(f"/proc/{pid}/io").splitlines()
    except OSError:
        return 0
    counts = dict(line.split(b": ") for line in lines)
    return max(int(counts[b"wchar"]), int(counts[b"write_bytes"]))


def _threads(pid: int) -> list[str]:
    try:
        return [f"/proc/{pid}/task/{number}" for number in posix.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _open(thread: str) -> dict[int, int]:
    """Return the bytes of each open file without a name, by inode."""
    held = {}
    for number in posix.listdir(f"{thread}/fd"):
        try:
            found = posix.stat(f"{thread}/fd/{number}")
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
            held[found.st_ino] = found.st_blocks * 512 + INODE_BYTES
    return held


def _mapped(thread: str, folder: str) -> set[int]:
    """Return the inodes of the mapped files without a name that were in `folder`.

    Raises:
        ProcessLookupError: the thread has ended.
    """
    lines = _read(f"{thread}/maps").splitlines()
    if not lines:
        raise ProcessLookupError
    start = folder.encode() + b"/"
    found = set()
    for line in lines:
        if line.endswith(b" (deleted)"):
            # address, permissions, offset, device, inode, path
            fields = line.split(None, 5)
            if fields[5].startswith(start):
                found.add(int(fields[4]))
    return found


def _read(path: str) -> bytes:
    file = posix.open(path, posix.O_RDONLY)
    try:
        parts = []
        while part := posix.read(file, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        posix.close(file)
