"""Shared by the stages of code: problems and samples of earlier stages."""

from __future__ import annotations

from collections.abc import Sequence

from harness.graph.stages import StageContext
from sparsepo.data.rows import read_rows
from tasks.code.problems import Problem, read_problems, task_key
from tasks.code.samples import Sample, read_samples


def problems_of(context: StageContext, benchmark: str) -> list[Problem]:
    """Return the problems of the input "problems"."""
    return read_problems(context.inputs["problems"] / f"{benchmark}.jsonl")


def samples_of(context: StageContext, benchmark: str, problems: Sequence[Problem]) -> list[Sample]:
    """Return the samples of the input "samples", in the order of their file."""
    path = context.inputs["samples"] / f"{benchmark}.jsonl"
    sampled = {task_key(row["task_id"]) for row in read_rows(path)}
    own = [problem for problem in problems if task_key(problem.task_id) in sampled]
    return read_samples(path, own).samples
