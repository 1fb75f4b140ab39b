"""The journal of verdicts: what a judge has answered is on the disk before the next question.

One JSON line per verdict, under a key that is a hash of the judge's signature and everything that
it was shown. A killed run therefore asks only what was on its way when it was killed, and a changed
experiment only what it has not asked before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from tasks.judges.base import Item, Verdict
from tasks.metrics.preference import PREFERENCES


def question_key(signature: Mapping[str, str], item: Item) -> str:
    """Return the key of a question: SHA-256 of the judge and of what it is shown, in order."""
    content = [dict(signature), item.prompt, item.first, item.second]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class VerdictJournal:
    """A file of verdicts, which several processes may share."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from asking, so that limits on requests hold for all together."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            yield

    def read(self) -> dict[str, Verdict]:
        """Return the verdicts by key; a line that was cut off is passed over."""
        if not self.path.is_file():
            return {}
        found: dict[str, Verdict] = {}
        with self.path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    row = json.loads(line)
                    key, verdict = row.pop("key"), Verdict(**row)
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue
                if verdict.preference in PREFERENCES:
                    found[key] = verdict
        return found

    def add(self, key: str, verdict: Verdict) -> None:
        """Append a verdict; it is on the disk when this returns."""
        line = json.dumps({"key": key, **asdict(verdict)})
        # The first line break ends what a killed process may have left half-written.
        with self.path.open("ab") as stream:
            stream.write(f"\n{line}\n".encode())
            stream.flush()
            os.fsync(stream.fileno())
