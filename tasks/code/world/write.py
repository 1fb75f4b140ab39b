"""Write the embedded world of code: the base model's corpus and two sets of problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from sparsepo.data.jsonl import write_jsonl
from sparsepo.errors import UserError
from tasks.code.world.compose import Side, sample_side
from tasks.code.world.config import CodeWorldConfig
from tasks.code.world.operations import FILTERS, MAPS, REDUCTIONS, SOURCES, Operation
from tasks.code.world.problems import (
    Problem,
    assertion,
    definition,
    humaneval_prompt,
    humaneval_row,
    mbpp_description,
    mbpp_row,
    sample_problems,
    shown_case,
)

if TYPE_CHECKING:
    from sparsepo.data.rows import Row

MBPP_IDS: Final[dict[str, Sequence[int]]] = {
    "mbpp_test": range(11, 511),
    "mbpp_validation": range(511, 601),
    "mbpp_train": (*range(601, 975), *range(1, 11)),
}
"""MBPP's own splits by id, under the names of the configuration's sizes."""


def write_world(config: CodeWorldConfig, directory: Path) -> None:
    """Write every file of the world into `directory`; equal configurations give equal bytes.

    Args:
        config: sizes, shares and the seed.
        directory: created if missing. It receives `corpus.jsonl` (`text`; `answers`, the
            character spans of programs), `humaneval.jsonl` and `mbpp.jsonl` (each in its schema;
            MBPP's splits are its ids).

    Raises:
        UserError: there are more problems than ids in a split of MBPP, or a share is outside [0,
        1).
    """
    for name, ids in MBPP_IDS.items():
        if getattr(config, name) > len(ids):
            raise UserError(
                f"{name} must be at most {len(ids)}, the number of MBPP's ids for them."
            )
    if not config.mistake_shares or not all(0 <= share < 1 for share in config.mistake_shares):
        raise UserError("mistake_shares needs at least one share, each at least 0 and below 1.")
    directory.mkdir(parents=True, exist_ok=True)
    # One generator per file, so that changing the size of one file does not affect the others.
    write_jsonl(corpus(config, _rng(config, "corpus")), directory / "corpus.jsonl")
    problems = problem_sets(config)
    rows = [humaneval_row(i, *problem) for i, problem in enumerate(problems["humaneval"])]
    write_jsonl(rows, directory / "humaneval.jsonl")
    write_jsonl(mbpp_rows(problems), directory / "mbpp.jsonl")


def mistake_shares(config: CodeWorldConfig) -> dict[tuple[str, str, str], float]:
    """Return how often the corpus writes each operation wrong, by (role, name, item kind)."""
    named = {_name(o): None for o in _operations() if o.mistakes}
    order = list(named)
    _rng(config, "mistakes").shuffle(order)
    shares = config.mistake_shares
    return {name: shares[place % len(shares)] for place, name in enumerate(order)}


def corpus(config: CodeWorldConfig, rng: Random) -> Iterator[Row]:
    """Yield the base model's documents: correct and wrong programs with both kinds of prompts."""
    shares = mistake_shares(config)
    for _ in range(config.documents):
        composition = sample_side(rng, "corpus")
        wrong = {
            operation: rng.choice(operation.mistakes)
            for operation in composition.operations
            if rng.random() < shares.get(_name(operation), 0.0)
        }
        expression = composition.expression(wrong)
        case = shown_case(composition, rng)
        if rng.random() < 0.5:
            prompt = humaneval_prompt(composition, case)
            answer = f"    return {expression}\n"
            # Generation begins after the docstring, before the end of the line.
            start = len(prompt) - 1
        else:
            lines = (mbpp_description(composition), assertion(composition, case))
            prompt = '"""\n{}\n{}\n"""\n'.format(*lines)
            answer = definition(composition, expression)
            start = len(prompt)
        text = prompt + answer
        yield {"text": text, "answers": [[start, len(text)]]}


def problem_sets(config: CodeWorldConfig) -> dict[str, list[Problem]]:
    """Return HumanEval problems and the splits of MBPP, without repeating a composition."""
    wanted: tuple[tuple[str, Side, int], ...] = (
        ("humaneval", "test", config.humaneval_problems),
        ("mbpp_test", "test", config.mbpp_test),
        ("mbpp_validation", "validation", config.mbpp_validation),
        ("mbpp_train", "train", config.mbpp_train),
    )
    taken: set[str] = set()
    return {
        name: list(sample_problems(_rng(config, name), side, count, config.tests, taken))
        for name, side, count in wanted
    }


def mbpp_rows(problems: Mapping[str, list[Problem]]) -> list[Row]:
    """Return the rows of `mbpp.jsonl`, in the order of their ids, which are MBPP's splits."""
    rows = [
        mbpp_row(task_id, *problem)
        for name, numbers in MBPP_IDS.items()
        for task_id, problem in zip(numbers, problems[name], strict=False)
    ]
    return sorted(rows, key=lambda row: row["task_id"])


def _operations() -> Iterable[Operation]:
    return (*(source.operation for source in SOURCES), *FILTERS, *MAPS, *REDUCTIONS)


def _name(operation: Operation) -> tuple[str, str, str]:
    return operation.role, operation.name, operation.takes


def _rng(config: CodeWorldConfig, name: str) -> Random:
    return Random(f"{config.seed}/{name}")
