"""The stage that makes preference pairs of judged samples."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from harness.domains.code.work.common import problems_of, samples_of
from harness.domains.code.work.verdicts import read_verdicts
from harness.domains.common.work.files import write_json, write_pairs
from harness.graph.stages import StageContext
from sparsepo.errors import UserError
from tasks.code.conventions import get_convention
from tasks.code.pairs import (
    Answers,
    answers_of_samples,
    epoch_pairs,
    fixed_pairs,
    read_answers,
    select,
)

_ANSWER_SPLITS = ("validation", "valid", "test")
"""Names that the authors' folder may give to its second split."""


def make_pairs(context: StageContext) -> None:
    """Write train.jsonl, validation.jsonl and report.json from judged samples.

    Configuration: `epochs`, `seed` (of the training pairs), `validation_seed`, `convention`.
    Inputs: "problems", "samples" and "verdicts"; or the outside folder "answers" alone.

    Raises:
        UserError: no problem has two passing samples and a failing one.
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
        folder: contains train/merged.json and validation/merged.json (or test/merged.json).
        split: train or validation.

    Raises:
        UserError: there is none.
    """
    names = ("train",) if split == "train" else _ANSWER_SPLITS
    for name in names:
        if (folder / name / "merged.json").is_file():
            return folder / name / "merged.json"
    raise UserError(
        f"data.answers: {folder} has no {names[0]}/merged.json; give the authors' folder."
    )
