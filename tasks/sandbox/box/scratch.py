"""The only folder that programs may write to; it is emptied only if it was changed."""

from __future__ import annotations

import contextlib
import os.path
import posix
import stat

from .unnamed import INODE_BYTES, unnamed_bytes, written_bytes


class Scratch:
    """The writable folder of a box.

    Its change time, which no program can set, its mode and whether it is empty show if anything in
    it was created, removed or given other permissions. (On older kernels, the time alone is too
    coarse.)

    Args:
        path: the folder, empty.
        quota_bytes: the limit of `over_quota`; 0 if the file system itself is limited.
    """

    def __init__(self, path: str, quota_bytes: int = 0) -> None:
        self.path = path
        self._true_path = os.path.realpath(path) if quota_bytes else path
        self.quota_bytes = quota_bytes
        self._clean_since = posix.stat(path).st_ctime_ns

    def clean(self) -> None:
        """Empty the folder if it was changed.

        Raises:
            OSError: something in it could not be removed.
        """
        if not self._touched():
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

    def _touched(self) -> bool:
        found = posix.stat(self.path)
        if found.st_ctime_ns != self._clean_since or stat.S_IMODE(found.st_mode) != 0o700:
            return True
        return bool(posix.listdir(self.path))

    def over_quota(self, pids: list[int], *, only_after_writes: bool = False) -> bool:
        """Return whether files occupy more than `quota_bytes`, including those without a name.

        Args:
            pids: the processes of the program, whose open and mapped files without a name count.
            only_after_writes: skip the files without a name if the processes have not written that
                much in total, which takes much less time to find out.
        """
        if not self.quota_bytes:
            return False
        total = 0
        if not only_after_writes or sum(map(written_bytes, pids)) > self.quota_bytes:
            hidden = self.quota_bytes + 1
            total = sum(unnamed_bytes(pid, self._true_path, hidden) for pid in pids)
        if total > self.quota_bytes:
            return True
        left = [self.path] if self._touched() else []
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
            if total > self.quota_bytes:
                return True
        return False


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(posix.lstat(path).st_mode)


def _open_up(folder: str) -> None:
    if stat.S_IMODE(posix.stat(folder).st_mode) != 0o700:
        posix.chmod(folder, 0o700)
