"""The file of samples, thinned out until it is small enough for the repository."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domains.common.samples import read_samples_file


@dataclass(frozen=True)
class Thinned:
    """A file of samples."""

    content: bytes
    kept: int
    found: int
    """Samples of the experiment."""


def thinned(file: Path, most: int) -> Thinned | None:
    """Return a file of samples of a limited size, with samples evenly spaced over the original.

    Args:
        file: as a run wrote it.
        most: bytes that the content may have.

    Returns:
        The original content if it is small enough; None if even one sample is too large.

    Raises:
        UserError: the file cannot be read, is damaged, or has another version.
    """
    head, lines = read_samples_file(file)
    samples = list(lines)
    content = file.read_bytes()
    kept = len(samples)
    while len(content) > most:
        # The first size that can be expected to do, and a little less each time it does not.
        kept = min(int(kept * most / len(content)), kept - 1)
        if kept < 1:
            return None
        content = _compressed(head, [samples[i * len(samples) // kept] for i in range(kept)])
    return Thinned(content, kept, int(head["samples"]))


def _compressed(head: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> bytes:
    lines = [{**head, "kept": len(samples)}, *samples]
    text = "".join(
        json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines
    )
    # Without a time, equal samples give equal files.
    return gzip.compress(text.encode("ascii"), compresslevel=6, mtime=0)
