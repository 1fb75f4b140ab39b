"""What the stages of the code experiments share: problems, samples and verdicts as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.stages import StageContext
from sparsepo.errors import UserError
from tasks.code.judging import Result
from tasks.code.problems import Problem, read_problems
from tasks.code.samples import Sample, read_samples

DETAIL_LENGTH = 200
"""Characters of a verdict's reason that are kept."""


def problems_of(context: StageContext, benchmark: str) -> list[Problem]:
    """Return the problems of the input "problems"."""
    return read_problems(context.inputs["problems"] / f"{benchmark}.jsonl")


def samples_of(context: StageContext, benchmark: str, problems: Sequence[Problem]) -> list[Sample]:
    """Return the samples of the input "samples", in the order of their file."""
    path = context.inputs["samples"] / f"{benchmark}.jsonl"
    sampled = {str(json.loads(line)["task_id"]) for line in _lines(path)}
    own = [problem for problem in problems if str(problem.task_id) in sampled]
    return read_samples(path, own).samples


def write_verdicts(results: Iterable[Result], path: Path) -> None:
    """Write verdicts, one JSON object a line: what does not change when they are made again."""
    with path.open("w", encoding="utf-8") as stream:
        for result in results:
            row = {"verdict": result.verdict, "detail": result.detail[:DETAIL_LENGTH]}
            if result.suspect:
                row["suspect"] = True  # type: ignore[assignment]
            stream.write(json.dumps(row) + "\n")


def read_verdicts(path: Path) -> list[Result]:
    """Read what `write_verdicts` wrote; times are not kept and are 0."""
    rows = [json.loads(line) for line in _lines(path)]
    return [
        Result(row["verdict"], row["detail"], 0.0, 0.0, row.get("suspect", False)) for row in rows
    ]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing from an artefact: remove it and run again")
    # A program may hold characters at which splitlines() would break a line and JSON does not.
    with path.open(encoding="utf-8") as stream:
        return list(stream)
