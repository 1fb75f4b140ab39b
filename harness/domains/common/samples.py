"""What an experiment's models wrote, for readers: each prompt with the responses of all rows.

A run writes them beside its result, in `<id>.samples.jsonl.gz`: a line that describes the file,
then a line for each prompt of each chain. docs/report.md has the fields.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.graph.files import canonical_json
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.types import Message

SCHEMA = "sparsepo-samples-1"
"""Version of the file's form, incremented when the meaning of a field changes."""

MOST = 5000
"""Prompts that are kept of an experiment, evenly spaced over all chains [ours]."""

Prompt = str | Sequence[Message]


@dataclass(frozen=True)
class Response:
    """What one row's model wrote."""

    row: str
    """Id of the row."""
    text: str
    scores: Mapping[str, float | str | None] = field(default_factory=dict)
    """Score → its value; a word, such as a verdict, or None where there is none."""
    variant: str = ""
    """What distinguishes it from the row's other responses to the prompt, such as "γ 0.3"."""
    tokens: Mapping[str, Any] | None = None
    """A response of a document of token maps; see docs/inspect.md."""


@dataclass(frozen=True)
class Sample:
    """One prompt in one chain, and the responses to it."""

    id: str
    """Unique among the group's samples of a chain."""
    chain: int
    """The chain's seed."""
    group: str
    """What the prompt belongs to, such as "HumanEval" or "temperature 0.5"; may be empty."""
    prompt: Prompt
    responses: Sequence[Response]
    references: Mapping[str, str] = field(default_factory=dict)
    """Label → a text of the data to compare with, such as the chosen response."""


@dataclass(frozen=True)
class SampleSet:
    """The samples of an experiment, which are read only if their file is to be written."""

    rows: Mapping[str, str]
    """Row id → label."""
    scores: Mapping[str, str]
    """Score → label."""
    sources: Sequence[Stage]
    """The stages that the samples are read from."""
    read: Callable[[], Iterable[Sample]]


def samples_name(experiment: str) -> str:
    """Return the name of an experiment's file of samples."""
    return f"{experiment}.samples.jsonl.gz"


def samples_file(experiment: str, samples: SampleSet, existing: Path) -> bytes | None:
    """Return the content of an experiment's file of samples; equal samples give equal bytes.

    Args:
        experiment: its id.
        samples: the samples.
        existing: the file as an earlier run may have written it.

    Returns:
        The content, or None if the existing file was made of the same artefacts.
    """
    head = {
        "schema": SCHEMA,
        "experiment": experiment,
        "rows": dict(samples.rows),
        "scores": dict(samples.scores),
        "most": MOST,
    }
    addresses = [stage.address for stage in samples.sources]
    source = hashlib.sha256(canonical_json([head, addresses]).encode()).hexdigest()
    if _source_of(existing) == source:
        return None
    found = list(samples.read())
    kept = [found[i * len(found) // MOST] for i in range(MOST)] if len(found) > MOST else found
    lines = [{**head, "source": source, "samples": len(found), "kept": len(kept)}]
    lines += [asdict(sample) for sample in kept]
    text = "".join(
        json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines
    )
    # Without a time, equal samples give equal files.
    return gzip.compress(text.encode("ascii"), compresslevel=6, mtime=0)


def read_samples_file(file: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return the first line of a file of samples, and an iterator over its samples.

    Args:
        file: as `samples_file` made it.

    Raises:
        UserError: it cannot be read, is damaged, or has another version; the iterator raises it
            too.
    """
    lines = _lines(file)
    head = next(lines, {})
    if head.get("schema") != SCHEMA:
        raise UserError(
            f"{file} was written by another version of this program; run its experiment again, "
            "which reuses what is in the store."
        )
    return head, lines


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for line in stream:
                found = json.loads(line)
                if not isinstance(found, dict):
                    raise ValueError
                yield found
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{file} is damaged; run its experiment again.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None


def _source_of(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        head, _ = read_samples_file(file)
    except UserError:
        return None
    source: str | None = head.get("source")
    return source
