"""The world's problems in HumanEval's and MBPP's schemas; their tests tell right from wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from tasks.code.world.compose import Composition, Side, sample_side

if TYPE_CHECKING:
    from sparsepo.data.rows import Row

_ATTEMPTS = 40
"""Inputs that are tried before a composition is given up as untestable."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test: an argument and the right value."""

    argument: Any
    expected: Any


Problem = tuple[Composition, list[Case]]


def shown_case(composition: Composition, rng: Random) -> Case:
    """Return a case of few items, for a description; its value is not an empty one if possible."""
    function = composition.callable()
    case = Case(None, None)
    for _ in range(5):
        argument = composition.source.sample(rng, rng.randint(2, 3))
        case = Case(argument, function(argument))
        if case.expected not in ([], "", 0):
            break
    return case


def cases(composition: Composition, rng: Random, count: int) -> list[Case] | None:
    """Return cases that every composition with a mistake fails.

    Args:
        composition: what the program has to do.
        rng: source of randomness.
        count: how many; more where that takes more.

    Returns:
        The cases, a short one first; None if some mistake cannot be told from the right program.
    """
    function = composition.callable()
    alive = {text: composition.callable(text) for text in composition.mistaken()}
    found = [shown_case(composition, rng)]
    empty = composition.source.sample(rng, 0)
    found.append(Case(empty, function(empty)))
    for case in found:
        alive = _survivors(alive, case)
    for _ in range(_ATTEMPTS):
        if len(found) >= count and not alive:
            return found
        argument = composition.source.sample(rng, rng.randint(3, 6))
        case = Case(argument, function(argument))
        left = _survivors(alive, case)
        if len(left) < len(alive) or (not alive and case not in found):
            found.append(case)
            alive = left
    return None


def _survivors(
    mistaken: dict[str, Callable[[Any], Any]], case: Case
) -> dict[str, Callable[[Any], Any]]:
    return {text: function for text, function in mistaken.items() if agrees(function, case)}


def agrees(function: Callable[[Any], Any], case: Case) -> bool:
    """Say whether a function gives a case's value; an error is another value."""
    try:
        return bool(function(case.argument) == case.expected)
    except Exception:
        return False


def sample_problems(
    rng: Random, side: Side, count: int, tests: int, seen: set[str]
) -> Iterator[Problem]:
    """Yield different testable compositions of one side.

    Args:
        rng: source of randomness.
        side: where they may come from.
        count: how many.
        tests: cases of each, at least.
        seen: keys of compositions that must not come again; extended.
    """
    made = 0
    while made < count:
        composition = sample_side(rng, side)
        if composition.key in seen:
            continue
        found = cases(composition, rng, tests)
        if found is not None:
            seen.add(composition.key)
            made += 1
            yield composition, found


def humaneval_prompt(composition: Composition, case: Case) -> str:
    """Return a function's head and docstring with one example, as HumanEval writes them."""
    return (
        f"def {composition.function}({composition.source.parameter}):\n"
        f'    """ Return {composition.description}.\n'
        f"    >>> {composition.function}({case.argument!r})\n"
        f"    {case.expected!r}\n"
        '    """\n'
    )


def humaneval_row(number: int, composition: Composition, found: list[Case]) -> Row:
    """Return a row in HumanEval's schema."""
    checks = "".join(f"    assert candidate({c.argument!r}) == {c.expected!r}\n" for c in found)
    return {
        "task_id": f"World/{number}",
        "prompt": humaneval_prompt(composition, found[0]),
        "entry_point": composition.function,
        "canonical_solution": f"    return {composition.expression()}\n",
        "test": f"def check(candidate):\n{checks}",
    }


def mbpp_description(composition: Composition) -> str:
    """Return the description of an MBPP row."""
    return f"Write a function to find {composition.description}."


def assertion(composition: Composition, case: Case) -> str:
    """Return one of MBPP's tests."""
    return f"assert {composition.function}({case.argument!r}) == {case.expected!r}"


def definition(composition: Composition, expression: str) -> str:
    """Return a whole function."""
    return f"def {composition.function}({composition.source.parameter}):\n    return {expression}\n"


def mbpp_row(task_id: int, composition: Composition, found: list[Case]) -> Row:
    """Return a row in MBPP's schema."""
    return {
        "task_id": task_id,
        "text": mbpp_description(composition),
        "code": definition(composition, composition.expression()),
        "test_list": [assertion(composition, case) for case in found],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
