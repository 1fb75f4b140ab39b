"""Writes files atomically, hashes them, and explains disk errors in one sentence."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """Return JSON in a canonical form: sorted keys, no spaces, no NaN.

    Args:
        value: JSON data.

    Returns:
        The text from which addresses are computed.

    Raises:
        ValueError: for NaN and infinities, which have no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def pretty_json(value: Any) -> str:
    """Return readable JSON: one value per line, in the given order, ending with a newline."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_bytes(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def utc_time(path: Path) -> str:
    """Return when a file was written, in UTC to the second, such as 2026-01-31T12:00:00Z."""
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return written.strftime("%Y-%m-%dT%H:%M:%SZ")


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the regular files under a folder, in the order of their relative paths."""
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's relative names and contents.

    Args:
        path: a file or a folder that exists.

    Returns:
        64 hexadecimal digits that do not depend on the location.
    """
    path = path.resolve()
    if path.is_file():
        stat = path.stat()
        return _file_hash(path, stat.st_mtime_ns, stat.st_size)
    digest = hashlib.sha256()
    for file in walk_files(path):
        stat = file.stat()
        inner = _file_hash(file, stat.st_mtime_ns, stat.st_size)
        digest.update(f"{file.relative_to(path).as_posix()}\0{inner}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _file_hash(path: Path, modified_ns: int, size: int) -> str:
    return sha256_file(path)


def require_writable(folder: Path) -> None:
    """Check that a folder can be written to, without creating anything.

    Args:
        folder: the folder for results; it need not exist.

    Raises:
        UserError: a file has its name, or the nearest existing folder is not writable.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UserError(
            f"{folder} cannot be created, because {place} is a file; choose another --out."
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            f"No permission to write to {place}; change its permissions, or choose another --out."
        )


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write several files, none of which is ever seen half-written.

    All files are first written to a hidden folder and then renamed, so a full disk leaves the older
    versions untouched.

    Args:
        folder: their folder; created if it is missing.
        files: name → content.

    Raises:
        UserError: the disk is full or the folder is not writable.
    """
    staging: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (staging / name).write_bytes(data)
        for name in files:
            (staging / name).replace(folder / name)
    except OSError as error:
        raise explain_disk_error(error, folder) or error from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put a finished folder where another one may be, which is then deleted.

    Args:
        new: the folder, on the same disk.
        folder: its place.
    """
    # mkdtemp makes folders for their owner alone.
    new.chmod(0o755)
    old = None
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        folder.replace(old)
    new.rename(folder)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def explain_disk_error(error: BaseException, place: Path) -> UserError | None:
    """Return a one-sentence error for a full or read-only disk, None for any other error.

    Libraries (safetensors, torch) wrap such errors in their own types, so the whole chain of causes
    and their texts are examined.

    Args:
        error: the error that was raised.
        place: the file or folder that was being written.
    """
    seen: BaseException | None = error
    while seen is not None:
        code = seen.errno if isinstance(seen, OSError) else None
        text = str(seen).lower()
        if code in _FULL or "no space left on device" in text or "disk quota exceeded" in text:
            return UserError(
                f"No space left on the disk of {place}; free some space, or choose another disk "
                "with --store DIR (or SPARSEPO_STORE) and --out DIR."
            )
        if code in _FORBIDDEN or "read-only file system" in text:
            where = (seen.filename if isinstance(seen, OSError) else None) or place
            return UserError(
                f"No permission to write or read {where}; change its permissions, or choose "
                "another folder with --store DIR (or SPARSEPO_STORE) and --out DIR."
            )
        seen = seen.__cause__ or seen.__context__
    return None
