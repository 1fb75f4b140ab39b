"""What the stages of the code experiments share: problems, samples and verdicts as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.graph.stages import StageContext
from sparsepo.data.rows import read_rows
from tasks.code.judging import Result
from tasks.code.problems import Problem, read_problems, task_key
from tasks.code.samples import Sample, read_samples

DETAIL_LENGTH = 200
"""Characters of a verdict's reason that are kept."""


def problems_of(context: StageContext, benchmark: str) -> list[Problem]:
    """Return the problems of the input "problems"."""
    return read_problems(context.inputs["problems"] / f"{benchmark}.jsonl")


def samples_of(context: StageContext, benchmark: str, problems: Sequence[Problem]) -> list[Sample]:
    """Return the samples of the input "samples", in the order of their file."""
    path = context.inputs["samples"] / f"{benchmark}.jsonl"
    sampled = {task_key(row["task_id"]) for row in read_rows(path)}
    own = [problem for problem in problems if task_key(problem.task_id) in sampled]
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
    # Text may hold characters at which splitlines() would break a line and JSON does not.
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        Result(row["verdict"], row["detail"], 0.0, 0.0, row.get("suspect", False)) for row in rows
    ]
