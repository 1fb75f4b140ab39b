"""Values of a metric on disk, by content: what has been computed once is never computed again.

A cache is one JSON Lines file for each signature. Its first line is the signature; each further
line holds one batch. A line is written by a single call and flushed to the disk before the next
batch starts: a process that is killed loses at most the batch that it is computing. An incomplete
last line is cut off when the file is opened.

A batch is a fixed part of the sorted list of what is scored, whatever is cached already, because a
batch's padding moves the last bits of an encoder's values: a run that was killed and resumed has
the same batches, hence the same values to the last bit, as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from sparsepo.errors import UserError

Key = tuple[str, ...]
"""The texts that decide a value."""


class ScoreCache:
    """The values of one signature, kept in a file or, without a folder, in memory.

    Attributes:
        computed: how many values this object has computed and not found.
    """

    def __init__(self, folder: Path | None, name: str, signature: Mapping[str, str]) -> None:
        """Open the cache.

        Args:
            folder: where caches are; it is created. ``None`` keeps values in memory.
            name: start of the file's name.
            signature: what decides the values besides the texts.

        Raises:
            UserError: the folder cannot be written, or the file is not a cache.
        """
        self._signature = dict(signature)
        self._values: dict[str, float | None] = {}
        self._read = 0
        self.computed = 0
        self.file: Path | None = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"The cache of metrics cannot be made at {folder} ({error.strerror}); "
                    "choose another folder."
                ) from None
            self.file = folder / f"{name}-{_digest([self._signature])[:16]}.jsonl"

    def values(
        self,
        keys: Sequence[Key],
        compute: Callable[[list[Key]], Sequence[float | None]],
        batch: int,
        order: Callable[[Key], Any] | None = None,
    ) -> list[float | None]:
        """Return the value of each key, computing those that are not there.

        Args:
            keys: the texts of each value; equal ones are computed once.
            compute: values of a list of distinct keys, in their order.
            batch: largest number of keys of one call of `compute`.
            order: how keys are sorted before they are split into batches; ``None`` for their text.

        Returns:
            A value per key, ``None`` where there is none.
        """
        distinct = sorted(set(keys))
        if order is not None:
            distinct.sort(key=order)
        with self._locked():
            self._load()
            for start in range(0, len(distinct), batch):
                named = {_digest(key): key for key in distinct[start : start + batch]}
                missing = {name: key for name, key in named.items() if name not in self._values}
                if missing:
                    found = [_finite(value) for value in compute(list(missing.values()))]
                    self._append(dict(zip(missing, found, strict=True)))
                    self.computed += len(found)
        return [self._values[_digest(key)] for key in keys]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self.file is None:
            yield
            return
        # The lock is the kernel's and ends with the process that holds it.
        with FileLock(f"{self.file}.lock"):
            yield

    def _load(self) -> None:
        """Read what was added since the last time, and cut off an incomplete last line."""
        if self.file is None or not self.file.exists():
            return
        with self.file.open("r+b") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(self._read)
                    break
                self._take(line)
                self._read += len(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or (self._read == 0 and row != {"signature": self._signature}):
            raise UserError(
                f"{self.file} is damaged, or not a cache of this metric; delete it to compute its "
                "values again."
            )
        if self._read:
            self._values.update(row)

    def _append(self, values: dict[str, float | None]) -> None:
        self._values.update(values)
        if self.file is None:
            return
        rows = [values] if self._read else [{"signature": self._signature}, values]
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        with self.file.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._read += len(text)


def _digest(content: Sequence[Any]) -> str:
    text = json.dumps(list(content), ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _finite(value: float | None) -> float | None:
    # NaN and infinity are no values, and no JSON either.
    return value if value is not None and abs(value) < float("inf") else None
