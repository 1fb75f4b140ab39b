"""Write the embedded world of code: the base model's corpus and two sets of problems."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from random import Random

from sparsepo.errors import UserError
from sparsepo.rows import Row
from tasks.code.world.compose import sample_side
from tasks.code.world.config import CodeWorldConfig
from tasks.code.world.operations import FILTERS, MAPS, REDUCTIONS, SOURCES, Operation
from tasks.code.world.problems import (
    assertion,
    definition,
    humaneval_prompt,
    humaneval_row,
    mbpp_description,
    mbpp_row,
    sample_problems,
    shown_case,
)

TEST_IDS = range(11, 511)
VALIDATION_IDS = range(511, 601)
"""MBPP's own splits by id; training is the rest, 601 and on before 1 to 10."""


def write_world(config: CodeWorldConfig, directory: Path) -> None:
    """Write every file of the world into `directory`; equal configurations give equal bytes.

    Args:
        config: sizes, shares and the seed.
        directory: created where missing. It receives `corpus.jsonl` (`text`; `answers`, the
            character spans of programs), `humaneval.jsonl` and `mbpp.jsonl` (each in its schema;
            MBPP's splits are its ids).

    Raises:
        UserError: for more problems than a split of MBPP has ids, or a share outside [0, 1).
    """
    if config.mbpp_test > len(TEST_IDS) or config.mbpp_validation > len(VALIDATION_IDS):
        raise UserError(
            f"MBPP has {len(TEST_IDS)} test and {len(VALIDATION_IDS)} validation problems by its "
            "ids; ask the world for fewer."
        )
    if not config.mistake_shares or not all(0 <= share < 1 for share in config.mistake_shares):
        raise UserError("mistake_shares needs at least one share, each from 0 to below 1.")
    directory.mkdir(parents=True, exist_ok=True)
    # One generator per file, so that another size of one file leaves the others as they were.
    _write(directory / "corpus.jsonl", corpus(config, _rng(config, "corpus")))
    _write(directory / "humaneval.jsonl", humaneval_rows(config))
    _write(directory / "mbpp.jsonl", mbpp_rows(config))


def mistake_shares(config: CodeWorldConfig) -> dict[tuple[str, str, str], float]:
    """Return how often the corpus writes each operation wrong, by (role, name, item kind)."""
    named = {_name(o): None for o in _operations() if o.mistakes}
    order = list(named)
    _rng(config, "mistakes").shuffle(order)
    shares = config.mistake_shares
    return {name: shares[place % len(shares)] for place, name in enumerate(order)}


def corpus(config: CodeWorldConfig, rng: Random) -> Iterator[Row]:
    """Yield the base model's documents: programs, some of them wrong, in both forms of prompt."""
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
            # Generation begins behind the docstring, before the line end.
            start = len(prompt) - 1
        else:
            lines = (mbpp_description(composition), assertion(composition, case))
            prompt = '"""\n{}\n{}\n"""\n'.format(*lines)
            answer = definition(composition, expression)
            start = len(prompt)
        text = prompt + answer
        yield {"text": text, "answers": [[start, len(text)]]}


def humaneval_rows(config: CodeWorldConfig) -> Iterator[Row]:
    """Yield the rows of `humaneval.jsonl`."""
    rng = _rng(config, "humaneval")
    made = sample_problems(rng, "test", config.humaneval_problems, config.tests, set())
    for number, (composition, found) in enumerate(made):
        yield humaneval_row(number, composition, found)


def mbpp_rows(config: CodeWorldConfig) -> list[Row]:
    """Return the rows of `mbpp.jsonl`, in the order of their ids."""
    # HumanEval's compositions are not MBPP's too: the two columns would not be two measurements.
    taken: set[str] = set()
    first = sample_problems(
        _rng(config, "humaneval"), "test", config.humaneval_problems, config.tests, taken
    )
    for _ in first:
        pass
    rows: list[Row] = []
    train_ids = chain(range(601, 10**9), range(1, 11))
    for side, count, ids in (
        ("test", config.mbpp_test, iter(TEST_IDS)),
        ("validation", config.mbpp_validation, iter(VALIDATION_IDS)),
        ("train", config.mbpp_train, train_ids),
    ):
        made = sample_problems(_rng(config, f"mbpp {side}"), side, count, config.tests, taken)  # type: ignore[arg-type]
        rows += [mbpp_row(i, *problem) for i, problem in zip(islice(ids, count), made)]
    return sorted(rows, key=lambda row: row["task_id"])


def _operations() -> Iterable[Operation]:
    return (*(source.operation for source in SOURCES), *FILTERS, *MAPS, *REDUCTIONS)


def _name(operation: Operation) -> tuple[str, str, str]:
    return operation.role, operation.name, operation.takes


def _rng(config: CodeWorldConfig, name: str) -> Random:
    return Random(f"{config.seed}/{name}")


def _write(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
