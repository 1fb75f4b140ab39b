from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.graph.files import explain_disk_error, require_writable, write_files
from sparsepo.errors import UserError


def test_files_are_written_together_and_replaced(tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"x.txt": "one", "y.bin": b"two"})
    write_files(tmp_path / "a", {"x.txt": "three"})
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["x.txt", "y.bin"]
    assert (tmp_path / "a" / "x.txt").read_text() == "three"


def test_a_full_disk_leaves_the_older_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"x.txt": "old", "y.txt": "old"})
    real = Path.write_bytes

    def fail_on_the_second(self: Path, data: bytes) -> int:
        if self.name == "y.txt":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail_on_the_second)
    with pytest.raises(UserError, match="No space left on the disk of"):
        write_files(tmp_path, {"x.txt": "new", "y.txt": "new"})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x.txt": "old", "y.txt": "old"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "full"), "No space left"),
        (OSError(errno.EDQUOT, "quota"), "No space left"),
        (
            PermissionError(errno.EACCES, "no", "/some/file"),
            "No permission to write or read /some/file",
        ),
        (OSError(errno.EROFS, "read-only"), "No permission to write or read"),
        (RuntimeError("Error: No space left on device (os error 28)"), "No space left"),
        (OSError(errno.ENOENT, "missing"), None),
        (ValueError("x"), None),
    ],
)
def test_disk_errors_are_told_from_others(error: Exception, text: str | None) -> None:
    found = explain_disk_error(error, Path("store"))
    assert (found is None) if text is None else (found is not None and text in str(found))


def test_the_cause_of_an_error_counts() -> None:
    error = RuntimeError("could not serialize")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert explain_disk_error(error, Path("store")) is not None


def test_require_writable_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        require_writable(tmp_path / "file" / "b")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="No permission to write"):
        require_writable(tmp_path / "a")
