"""The stage that reads both benchmarks and divides MBPP into its splits."""

from __future__ import annotations

from harness.domains.common.work.files import evenly_spaced, write_json
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from sparsepo.data.rows import read_rows
from sparsepo.errors import UserError
from tasks.code.problems import Problem, in_mbpp_test_split, read_problems

HUB_SPLITS = {
    "humaneval": ("openai/openai_humaneval", ("test",)),
    "mbpp": ("google-research-datasets/mbpp", ("train", "validation", "test", "prompt")),
}
"""Benchmark → its data set on the hub and the splits to read."""

VALIDATION_IDS = range(511, 601)
"""MBPP's validation split on the hub."""


def make_problems(context: StageContext) -> None:
    """Read both benchmarks and write the sets of problems, each in its own schema, and report.json.

    Configuration: `sources` (benchmark → "world", "hub", or "file", which is then among the
    outside files), `sets` (which of humaneval, mbpp_test, mbpp_train and mbpp_validation are
    needed), `limit` (cap on each set, or None). Writes <set>.jsonl.

    Raises:
        UserError: a file is broken, or a required set is empty.
    """
    sets: dict[str, list[Problem]] = {name: [] for name in context.config["sets"]}
    for benchmark, source in context.config["sources"].items():
        problems, name = _problems(context, benchmark, source)
        if any(problem.kind != benchmark for problem in problems):
            raise UserError(f"{name} is not in {benchmark}'s schema; see docs/code.md.")
        for problem in problems:
            split = "humaneval" if benchmark == "humaneval" else _mbpp_split(problem)
            if split in sets:
                sets[split].append(problem)
    for set_name, found in sets.items():
        if not found:
            raise UserError(
                f"There are no problems for {set_name}; MBPP's splits are ranges of ids, 11 to 510 "
                "for testing, 511 to 600 for validation and the others for training: give the "
                "whole set."
            )
        kept = evenly_spaced(found, context.config["limit"])
        write_jsonl((problem.row for problem in kept), context.work / f"{set_name}.jsonl")
        sets[set_name] = kept
    write_json({name: len(found) for name, found in sets.items()}, context.work / "report.json")


def _problems(context: StageContext, benchmark: str, source: str) -> tuple[list[Problem], str]:
    if source == "hub":
        name, splits = HUB_SPLITS[benchmark]
        file = context.work / f"{benchmark}.hub.jsonl"
        write_jsonl((row for split in splits for row in read_rows(name, split)), file)
        problems = read_problems(file)
        file.unlink()
        return problems, name
    if source == "world":
        return read_problems(context.inputs["world"] / f"{benchmark}.jsonl"), "the world"
    file = context.files[benchmark]
    return read_problems(file), str(file)


def _mbpp_split(problem: Problem) -> str:
    if in_mbpp_test_split(problem.task_id):
        return "mbpp_test"
    number = str(problem.task_id)
    return (
        "mbpp_validation" if number.isdecimal() and int(number) in VALIDATION_IDS else "mbpp_train"
    )
