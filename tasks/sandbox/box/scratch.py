"""The only folder that programs may write to; it is emptied only if it was changed."""

from __future__ import annotations

import contextlib
import posix
import stat
from collections.abc import Sequence

from .unnamed import INODE_BYTES, unnamed_bytes


class Scratch:
    """The writable folder of a box.

    Its change time, which no program can set, its mode and whether it is empty show if anything in
    it was created, removed or given other permissions. (On older kernels, the time alone is too
    coarse.)

    Args:
        path: the folder, empty.
        quota_bytes: the limit of `over_quota`; 0 if the file system itself is limited.
        open_files: a program's limit of open files.
    """

    def __init__(self, path: str, quota_bytes: int = 0, open_files: int = 0) -> None:
        self.path = path
        self.quota_bytes = quota_bytes
        self._open_files = open_files
        found = posix.stat(path)
        self._device = found.st_dev
        self._clean_since = found.st_ctime_ns

    def clean(self) -> None:
        """Empty the folder if it was changed.

        Raises:
            OSError: something in it could not be removed.
        """
        if not self.touched():
            return
        _open_up(self.path)
        moved = 0
        while names := posix.listdir(self.path):
            for name in names:
                entry = f"{self.path}/{name}"
                if not _is_folder(entry):
                    posix.unlink(entry)
                    continue
                # Folders are moved up instead of being descended into, so no depth is too great.
                _open_up(entry)
                for inner in posix.listdir(entry):
                    below = f"{entry}/{inner}"
                    if _is_folder(below):
                        _open_up(below)
                        moved += 1
                        while True:
                            try:
                                posix.lstat(f"{self.path}/.{moved}")
                            except FileNotFoundError:
                                break
                            moved += 1
                        posix.rename(below, f"{self.path}/.{moved}")
                    else:
                        posix.unlink(below)
                posix.rmdir(entry)
        with contextlib.suppress(PermissionError):  # refused under Landlock, to programs as well
            posix.utime(self.path, (0, 0))
        self._clean_since = posix.stat(self.path).st_ctime_ns

    def touched(self) -> bool:
        """Return whether anything in the folder was created, removed or given other permissions."""
        found = posix.stat(self.path)
        if found.st_ctime_ns != self._clean_since or stat.S_IMODE(found.st_mode) != 0o700:
            return True
        return bool(posix.listdir(self.path))

    def over_quota(self, pids: Sequence[int]) -> bool:
        """Whether programs' files hold more than `quota_bytes`, with a name or without.

        Args:
            pids: the programs' processes, children of this one.
        """
        if not self.quota_bytes:
            return False
        total = sum(unnamed_bytes(pid, self._device, self._open_files) for pid in pids)
        return total > self.quota_bytes or self._named_over(self.quota_bytes - total)

    def _named_over(self, limit: int) -> bool:
        if not self.touched():
            return False
        total, left = 0, [self.path]
        while left:
            folder = left.pop()
            try:
                names = posix.listdir(folder)
            except OSError:
                return True
            for name in names:
                try:
                    found = posix.lstat(f"{folder}/{name}")
                except OSError:
                    continue
                total += found.st_blocks * 512 + INODE_BYTES
                if stat.S_ISDIR(found.st_mode):
                    left.append(f"{folder}/{name}")
            if total > limit:
                return True
        return False


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(posix.lstat(path).st_mode)


def _open_up(folder: str) -> None:
    if stat.S_IMODE(posix.stat(folder).st_mode) != 0o700:
        posix.chmod(folder, 0o700)
