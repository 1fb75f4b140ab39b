"""Stages that make the code experiments' data: world, problems, preference pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from harness.stages import StageContext
from harness.work.code_common import problems_of, read_verdicts, samples_of
from harness.work.common import evenly_spaced, write_json, write_pairs
from sparsepo.errors import UserError
from sparsepo.rows import Row, read_rows
from tasks.code.conventions import get_convention
from tasks.code.pairs import (
    Answers,
    answers_of_samples,
    epoch_pairs,
    fixed_pairs,
    read_answers,
    select,
)
from tasks.code.problems import Problem, in_mbpp_test_split, read_problems
from tasks.code.world import CodeWorldConfig, write_world

HUB_SPLITS = {
    "humaneval": ("openai/openai_humaneval", ("test",)),
    "mbpp": ("google-research-datasets/mbpp", ("train", "validation", "test", "prompt")),
}
"""Benchmark → its data set on the hub and the splits that make it whole."""

VALIDATION_IDS = range(511, 601)
"""MBPP's validation split on the hub."""

_ANSWER_SPLITS = ("validation", "valid", "test")


def make_world(context: StageContext) -> None:
    """Write the embedded world; the configuration is a CodeWorldConfig's fields."""
    context.progress(0, 1, "worlds")
    config = dict(context.config)
    config["mistake_shares"] = tuple(config["mistake_shares"])
    write_world(CodeWorldConfig(**config), context.work)


def make_problems(context: StageContext) -> None:
    """Read both benchmarks and write the four sets of problems, and report.json.

    Configuration: `sources` (benchmark → "world", "hub", or "file", which is then among the
    outside files), `limit` (cap on each set, or None). Writes humaneval.jsonl, mbpp_test.jsonl,
    mbpp_train.jsonl and mbpp_validation.jsonl, in the benchmarks' own schemas.

    Raises:
        UserError: for a broken file, or one that leaves a set empty.
    """
    sets: dict[str, list[Problem]] = {
        name: [] for name in ("humaneval", "mbpp_test", "mbpp_train", "mbpp_validation")
    }
    for benchmark, source in context.config["sources"].items():
        problems, name = _problems(context, benchmark, source)
        if any(problem.kind != benchmark for problem in problems):
            raise UserError(f"{name} is not in {benchmark}'s schema: see docs/code.md")
        for problem in problems:
            sets["humaneval" if benchmark == "humaneval" else _mbpp_split(problem)].append(problem)
    for set_name, found in sets.items():
        if not found:
            raise UserError(
                f"there are no problems for {set_name}: MBPP's splits are its ids, 11 to 510 for "
                "testing, 511 to 600 for validation, the others for training; give the whole set"
            )
        kept = evenly_spaced(found, context.config["limit"])
        _write_rows((problem.row for problem in kept), context.work / f"{set_name}.jsonl")
        sets[set_name] = kept
    write_json({name: len(found) for name, found in sets.items()}, context.work / "report.json")


def make_pairs(context: StageContext) -> None:
    """Write train.jsonl, validation.jsonl and report.json from judged samples.

    Configuration: `epochs`, `seed` (of the training pairs), `validation_seed`, `convention`.
    Inputs: "problems", "samples" and "verdicts"; or the outside folder "answers" alone.

    Raises:
        UserError: if no problem has two passing samples and a failing one.
    """
    config = context.config
    report = {}
    for split in ("train", "validation"):
        kept, selection = select(_answers(context, split), f"{split} problems")
        report[split] = asdict(selection)
        pairs = (
            epoch_pairs(kept, config["epochs"], config["seed"])
            if split == "train"
            else fixed_pairs(kept, config["validation_seed"])
        )
        write_pairs(pairs, context.work / f"{split}.jsonl")
    write_json(report, context.work / "report.json")


def _problems(context: StageContext, benchmark: str, source: str) -> tuple[list[Problem], str]:
    if source == "hub":
        name, splits = HUB_SPLITS[benchmark]
        file = context.work / f"{benchmark}.hub.jsonl"
        _write_rows((row for split in splits for row in read_rows(name, split)), file)
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


def _answers(context: StageContext, split: str) -> list[Answers]:
    if "answers" in context.files:
        return read_answers(answers_file(context.files["answers"], split))
    problems = problems_of(context, f"mbpp_{split}")
    samples = samples_of(context, f"mbpp_{split}", problems)
    results = read_verdicts(context.inputs["verdicts"] / f"mbpp_{split}.jsonl")
    return answers_of_samples(
        samples, results, get_convention(context.config["convention"], problems)
    )


def answers_file(folder: Path, split: str) -> Path:
    """Return the authors' file of a split.

    Args:
        folder: holds train/merged.json and validation/merged.json, or test/ in its place.
        split: train or validation.

    Raises:
        UserError: if there is none.
    """
    names = ("train",) if split == "train" else _ANSWER_SPLITS
    for name in names:
        if (folder / name / "merged.json").is_file():
            return folder / name / "merged.json"
    raise UserError(f"data.answers: {folder} has no {names[0]}/merged.json")


def _write_rows(rows: Iterable[Row] | Iterator[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
