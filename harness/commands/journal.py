"""A journal of results next to the output file, from which a killed run resumes.

A journal belongs to one set of inputs: their hash is part of its name and of its first line, so a
run with other inputs never reads it. Results are appended line by line, and a line that was cut off
is dropped. Only one run at a time can hold the journal; it is deleted when the output file has been
written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.graph.files import canonical_json, explain_disk_error
from sparsepo.errors import UserError

Record = dict[str, Any]


class Journal:
    """An open journal. Close it, or use it in a `with` statement.

    Attributes:
        path: the file, `<out>.<hash of the inputs>.partial`.
        records: the records of an interrupted run, in the order written.
    """

    def __init__(self, out: Path, inputs: Mapping[str, Any]) -> None:
        """Open the journal of an output file and read its records.

        Args:
            out: the file that the results will be written to; its folder is created if missing.
            inputs: everything that the results depend on, as JSON data.

        Raises:
            UserError: another run holds the journal, or it cannot be written.
        """
        header = canonical_json(inputs)
        digest = hashlib.sha256(header.encode()).hexdigest()
        self.path = out.parent / f"{out.name}.{digest[:12]}.partial"
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._open(out)
            self.records = self._read(digest)
            self._empty = not self.records
        except OSError as error:
            raise _unwritable(error, self.path) from None

    def append(self, record: Record) -> None:
        """Write a record to disk.

        Raises:
            UserError: the disk is full.
        """
        try:
            line = json.dumps(record).encode() + b"\n"
            while line:
                line = line[self._stream.write(line) :]
        except OSError as error:
            raise _unwritable(error, self.path) from None
        self._empty = False

    def remove(self) -> None:
        """Delete the file, because the results have been written."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the journal, and delete it if it has no records."""
        if self._empty:
            self.remove()
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, out: Path) -> FileIO:
        while True:
            # Unbuffered, because closing must not retry a write that failed.
            stream = self.path.open("a+b", buffering=0)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                raise UserError(
                    f"Another run is making {out} from the same inputs; wait for it, or choose "
                    "another --out."
                ) from None
            # Its previous holder may have deleted it; then this file no longer has a name.
            if self.path.exists() and os.path.samestat(os.fstat(stream.fileno()), self.path.stat()):
                return stream
            stream.close()

    def _read(self, digest: str) -> list[Record]:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        records = []
        for line in whole.splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                whole = whole[: whole.index(line)]
                break
        if not records or records[0] != {"inputs": digest}:
            records, whole = [], b""
        if len(whole) < len(content):
            self._stream.truncate(len(whole))
        if not records:
            self.append({"inputs": digest})
        return records[1:]


def _unwritable(error: OSError, path: Path) -> UserError:
    return explain_disk_error(error, path) or UserError(
        f"{path} cannot be written ({error.strerror or error}); choose another --out."
    )
