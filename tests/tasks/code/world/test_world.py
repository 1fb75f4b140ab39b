"""The world of code: its problems tell right programs from wrong ones, and nobody has read them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sparsepo.errors import UserError
from tasks.code.problems import in_mbpp_test_split, read_problems
from tasks.code.world import CodeWorldConfig, write_world
from tasks.code.world.compose import Composition, sample_composition
from tasks.code.world.operations import FILTERS, MAPS, REDUCTIONS, SOURCES
from tasks.code.world.problems import agrees, cases, shown_case
from tasks.code.world.write import mistake_shares, problem_sets

SMALL = CodeWorldConfig(
    documents=3000, humaneval_problems=12, mbpp_test=12, mbpp_train=24, mbpp_validation=8
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def problems() -> list[tuple[Composition, Any]]:
    return [problem for made in problem_sets(SMALL).values() for problem in made]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(text: str) -> str:
    """What a document or prompt asks for, in words."""
    found = re.search(r"(?:Return|Write a function to find) (.*)\.$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def passes(program: str) -> bool:
    try:
        exec(program, {})
    except Exception:
        return False
    return True


def test_equal_configurations_write_equal_bytes(world: Path, tmp_path: Path) -> None:
    write_world(SMALL, tmp_path / "again")
    write_world(CodeWorldConfig(seed=1, documents=300), tmp_path / "other")
    for name in ("corpus.jsonl", "humaneval.jsonl", "mbpp.jsonl"):
        written = (world / name).read_bytes()
        assert written == (tmp_path / "again" / name).read_bytes()
        assert written != (tmp_path / "other" / name).read_bytes()


def test_another_number_of_documents_leaves_the_problems_as_they_are(
    world: Path, tmp_path: Path
) -> None:
    changed = CodeWorldConfig(**{**{n: getattr(SMALL, n) for n in SMALL.__slots__}, "documents": 9})
    write_world(changed, tmp_path)
    assert (tmp_path / "mbpp.jsonl").read_bytes() == (world / "mbpp.jsonl").read_bytes()
    assert len(rows(tmp_path / "corpus.jsonl")) == 9


def test_both_files_are_in_their_benchmarks_schemas(world: Path) -> None:
    humaneval = read_problems(world / "humaneval.jsonl")
    assert [problem.kind for problem in humaneval] == ["humaneval"] * 12
    mbpp = read_problems(world / "mbpp.jsonl")
    assert {problem.kind for problem in mbpp} == {"mbpp"}
    numbers = [int(problem.task_id) for problem in mbpp]
    assert sum(in_mbpp_test_split(number) for number in numbers) == 12
    assert sum(511 <= number <= 600 for number in numbers) == 8
    assert sum(number >= 601 or number <= 10 for number in numbers) == 24
    assert all(problem.reference for problem in humaneval + mbpp)


def test_references_pass_their_tests_and_every_mistake_fails_them(
    world: Path, problems: list[tuple[Composition, Any]]
) -> None:
    written = read_problems(world / "humaneval.jsonl") + read_problems(world / "mbpp.jsonl")
    by_description = {composition.description: composition for composition, _ in problems}
    mistakes = 0
    for problem in written:
        right = problem.prefix + (problem.reference or "")
        assert passes(f"{right}\n{problem.tests}")
        composition = by_description[asked(problem.prompt)]
        assert composition.expression() in right
        for expression in composition.mistaken():
            wrong = right.replace(composition.expression(), expression)
            assert not passes(f"{wrong}\n{problem.tests}"), wrong
            mistakes += 1
    assert mistakes > 100


def test_a_broken_return_fails(world: Path) -> None:
    for problem in read_problems(world / "humaneval.jsonl"):
        assert not passes(f"{problem.prefix}    return None\n{problem.tests}")


def test_no_document_is_about_a_problem(
    world: Path, problems: list[tuple[Composition, Any]]
) -> None:
    written = {asked(row["text"]) for row in rows(world / "corpus.jsonl")}
    of_problems = {composition.description for composition, _ in problems}
    assert len(of_problems) == len(problems)
    assert len(written) > 1500
    assert not written & of_problems


def test_a_description_says_all_that_a_composition_is() -> None:
    rng = Random(3)
    found: dict[tuple[str, str], str] = {}
    for _ in range(4000):
        composition = sample_composition(rng)
        described = (composition.source.parameter, composition.description)
        assert found.setdefault(described, composition.key) == composition.key
    assert len(found) > 2000


def test_documents_are_wrong_as_often_as_the_configuration_says() -> None:
    shares = mistake_shares(SMALL)
    assert set(shares.values()) <= set(SMALL.mistake_shares)
    counts = Counter(shares.values())
    # Dealt in turn: no share comes much more often than another.
    assert max(counts.values()) - min(counts.values()) <= 1
    operations = (*(source.operation for source in SOURCES), *FILTERS, *MAPS, *REDUCTIONS)
    assert set(shares) == {(o.role, o.name, o.takes) for o in operations if o.mistakes}


def test_answers_are_marked_where_generation_begins(world: Path) -> None:
    forms = Counter()
    right = 0
    for row in rows(world / "corpus.jsonl"):
        ((start, end),) = row["answers"]
        answer = row["text"][start:end]
        assert end == len(row["text"])
        assert row["text"][:start].endswith('"""') or row["text"][:start].endswith('"""\n')
        forms[answer.startswith("\n    return ")] += 1
        # Whatever a document answers, what it asks for is right.
        right += passes(row["text"] + _shown_test(row["text"]))
    assert 1300 < forms[True] < 1700
    assert 0.3 < right / 3000 < 0.75


def _shown_test(text: str) -> str:
    lines = text.splitlines()
    if text.startswith("def"):
        call = lines[2].removeprefix("    >>> ")
        return f"\nassert {call} == {lines[3].strip()}\n"
    return f"\n{lines[2]}\n"


def test_every_operation_can_be_tested() -> None:
    rng = Random(0)
    seen: set[str] = set()
    for _ in range(1500):
        composition = sample_composition(rng)
        names = {operation.name for operation in composition.operations}
        if names - seen and cases(composition, rng, 4) is not None:
            seen |= names
    operations = (*(source.operation for source in SOURCES), *FILTERS, *MAPS, *REDUCTIONS)
    assert seen == {operation.name for operation in operations}


def test_cases_are_as_many_as_asked_and_right() -> None:
    rng = Random(1)
    for _ in range(50):
        composition = sample_composition(rng)
        found = cases(composition, rng, 6)
        if found is not None:
            assert len(found) >= 6
            assert all(agrees(composition.callable(), case) for case in found)
            assert len(repr(found[0].argument)) <= 40


def test_a_shown_case_is_rarely_an_empty_one() -> None:
    rng = Random(2)
    shown = [shown_case(sample_composition(rng), rng).expected for _ in range(300)]
    assert sum(value in ([], "", 0) for value in shown) < 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mbpp_test": 501}, "mbpp_test must be at most 500"),
        ({"mbpp_validation": 91}, "mbpp_validation must be at most 90"),
        ({"mbpp_train": 385}, "mbpp_train must be at most 384"),
        ({"mistake_shares": ()}, "at least one share"),
        ({"mistake_shares": (0.5, 1.0)}, "at least 0 and below 1"),
    ],
)
def test_impossible_configurations_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        write_world(CodeWorldConfig(**changes), tmp_path / "world")
    assert not (tmp_path / "world").exists()
