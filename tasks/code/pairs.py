"""Preference pairs of code, made as in the paper from passing and failing samples of a prompt.

Many solutions of each training problem are sampled and run. Prompts with enough passing and failing
samples are kept, and every epoch has a new random pair of each. The pairs of all epochs are written
to the data, which is trained on once, in order; a run can thus be resumed and cached like any
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from sparsepo.data.jsonl import write_jsonl
from sparsepo.data.rows import kind_of
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.code.conventions import Convention
from tasks.code.problems import column, read_text, rows_of_file, task_key
from tasks.code.samples import Sample

if TYPE_CHECKING:
    from tasks.code.judging import Result

LEAST_PASSING: Final = 2
"""[paper] Passing samples that a prompt needs."""
LEAST_FAILING: Final = 1
"""[paper] Failing samples that a prompt needs."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The samples of one prompt, separated by verdict; repeated texts are kept."""

    key: str
    """Identifies the prompt in the ids of its pairs."""
    prompt: str
    passing: tuple[str, ...]
    failing: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether the paper keeps the prompt: at least two samples pass, and one fails."""
        return len(self.passing) >= LEAST_PASSING and len(self.failing) >= LEAST_FAILING


@dataclass(frozen=True, slots=True)
class Selection:
    """Numbers of prompts that were kept and skipped."""

    prompts: int
    kept: int
    too_few_passing: int
    """Prompts with fewer than two passing samples."""
    none_failing: int
    """Prompts with enough passing samples and no failing one."""
    samples: int
    passed: int
    """Of all samples, including those of skipped prompts."""


def answers_of_samples(
    samples: Sequence[Sample], results: Sequence[Result], convention: Convention
) -> list[Answers]:
    """Group judged samples by problem and verdict.

    A response is the code that was run: the part of a completion before its first stop sequence. A
    sample counts as failing only if it failed, ran out of time or out of memory; samples that could
    not be judged (`refused`, `unsupported`) are skipped.

    Args:
        samples: samples of any problems.
        results: one result per sample, in order.
        convention: determines the prompts and the ends of completions.

    Returns:
        One entry per problem, in the order of their first samples.
    """
    parted: dict[str, tuple[str, list[str], list[str]]] = {}
    for sample, result in zip(samples, results, strict=True):
        key = task_key(sample.problem.task_id)
        prompt = convention.prompt(sample.problem)
        entry = parted.setdefault(key, (prompt, [], []))
        response = convention.parts(sample.problem, sample.completion)[1]
        if result.verdict == "passed":
            entry[1].append(response)
        elif result.verdict in ("failed", "timeout", "memory"):
            entry[2].append(response)
    return [
        Answers(key, prompt, tuple(passing), tuple(failing))
        for key, (prompt, passing, failing) in parted.items()
    ]


def select(answers: Iterable[Answers], what: str) -> tuple[list[Answers], Selection]:
    """Keep the prompts with at least two passing and one failing sample.

    Args:
        answers: the answers to all prompts.
        what: description of the prompts for the error, such as "training problems".

    Raises:
        UserError: no prompt is left.
    """
    given = list(answers)
    kept = [one for one in given if one.usable]
    if not kept:
        raise UserError(
            f"None of the {len(given)} {what} has both {LEAST_PASSING} passing samples and "
            f"{LEAST_FAILING} failing one, which a preference pair needs; sample more of each, use "
            "easier or harder problems, or another model."
        )
    few = sum(len(one.passing) < LEAST_PASSING for one in given)
    return kept, Selection(
        prompts=len(given),
        kept=len(kept),
        too_few_passing=few,
        none_failing=len(given) - len(kept) - few,
        samples=sum(len(one.passing) + len(one.failing) for one in given),
        passed=sum(len(one.passing) for one in given),
    )


def epoch_pairs(answers: Sequence[Answers], epochs: int, seed: int) -> list[PreferencePair]:
    """Return the training pairs of all epochs, in the order in which they are trained.

    Epoch e has one pair of every prompt, a random passing and a random failing sample, in random
    order. It depends only on the seed and e, so more epochs do not change the first ones.

    Args:
        answers: the answers to the prompts that were kept.
        epochs: number of epochs.
        seed: random seed.

    Returns:
        epochs × prompts pairs; their ids are "key#epoch".
    """
    pairs: list[PreferencePair] = []
    for epoch in range(epochs):
        rng = Random(f"{seed}/{epoch}")
        drawn = [_draw(one, rng, f"{one.key}#{epoch}") for one in answers]
        rng.shuffle(drawn)
        pairs += drawn
    return pairs


def fixed_pairs(answers: Sequence[Answers], seed: int) -> list[PreferencePair]:
    """Return one random pair of every prompt, for validation, in the prompts' order.

    Args:
        answers: the answers to the prompts that were kept.
        seed: random seed.
    """
    rng = Random(f"{seed}/fixed")
    return [_draw(one, rng, one.key) for one in answers]


def read_answers(path: str | Path) -> list[Answers]:
    """Read sampled and judged solutions in the authors' MBPP schema.

    Args:
        path: rows of `{question, answers: [{text, votes}]}`; `votes` is null for a failing
            solution and a number for a passing one.

    Raises:
        UserError: the file is missing, damaged or empty, or a row has another schema.
    """
    found: list[Answers] = []
    for number, row in enumerate(rows_of_file(path), start=1):
        where = f"{path}, row {number}"
        prompt = read_text(row, "question", where)
        listed = column(row, "answers", where)
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise UserError(f"{where}: 'answers' should be a list of objects.")
        passing: list[str] = []
        failing: list[str] = []
        for answer in listed:
            text = read_text(answer, "text", f"{where}, answers")
            (failing if _votes(answer, where) is None else passing).append(text)
        found.append(Answers(str(number), prompt, tuple(passing), tuple(failing)))
    if not found:
        raise UserError(f"{path} contains no prompts; give a file with at least one.")
    return found


def write_answers(answers: Iterable[Answers], path: Path) -> None:
    """Write answers as JSON Lines in the authors' schema, which `read_answers` reads."""
    write_jsonl(map(_as_row, answers), path)


def _as_row(one: Answers) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [{"text": text, "votes": 1} for text in one.passing]
    listed += [{"text": text, "votes": None} for text in one.failing]
    return {"question": one.prompt, "answers": listed}


def _draw(answers: Answers, rng: Random, pair_id: str) -> PreferencePair:
    chosen, rejected = rng.choice(answers.passing), rng.choice(answers.failing)
    return PreferencePair(pair_id, answers.prompt, chosen, rejected)


def _votes(answer: Mapping[str, Any], where: str) -> float | None:
    votes = column(dict(answer), "votes", f"{where}, answers")
    if votes is None or (isinstance(votes, int | float) and not isinstance(votes, bool)):
        return votes
    raise UserError(f"{where}: 'votes' should be a number or null, not {kind_of(votes)}.")
