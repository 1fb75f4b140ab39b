"""A journal of results beside a file to come: a killed run goes on from where it was.

A journal belongs to one set of inputs: their hash is part of its name and of its first line, so
that another input never finds it. It is appended line by line, and a line that was cut off by a
kill is dropped; one run at a time may hold it, and it goes when the file has been written.
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
        records: what an interrupted run has left, in the order written.
    """

    def __init__(self, out: Path, inputs: Mapping[str, Any]) -> None:
        """Open the journal of a file to come, and read what is there.

        Args:
            out: the file that the results will be written to; its folder is made if missing.
            inputs: everything that the results depend on, as JSON can hold it.

        Raises:
            UserError: if another run holds the journal, or it cannot be written.
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
        """Add a record; it survives this process from now on.

        Raises:
            UserError: if the disk is full.
        """
        try:
            line = json.dumps(record).encode() + b"\n"
            while line:
                line = line[self._stream.write(line) :]
        except OSError as error:
            raise _unwritable(error, self.path) from None
        self._empty = False

    def remove(self) -> None:
        """Delete the file: the results have been written elsewhere."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another run hold the journal; one without records goes."""
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
            # Without a buffer: what could not be written must not be tried again on closing.
            stream = self.path.open("a+b", buffering=0)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                raise UserError(
                    f"Another run is making {out} from the same inputs; wait for it, or choose "
                    "another --out."
                ) from None
            # Whoever held it until now may have removed it: then this is a file without a name.
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
