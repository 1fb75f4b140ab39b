"""The world's problems in HumanEval's and MBPP's schemas, with tests that detect every mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from tasks.code.world.compose import Composition, Side, sample_side

if TYPE_CHECKING:
    from sparsepo.data.rows import Row

_ATTEMPTS = 40
"""Number of inputs to try before a composition counts as untestable."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test: an argument and the correct value."""

    argument: Any
    expected: Any


Problem = tuple[Composition, list[Case]]


def shown_case(composition: Composition, rng: Random) -> Case:
    """Return a case with few items, for a description; if possible its value is not empty."""
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
        composition: the program.
        rng: source of randomness.
        count: minimum number of cases.

    Returns:
        The cases, a short one first; None if a mistake cannot be distinguished from the correct
        program.
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
    """Return whether a function returns a case's value; an error counts as another value."""
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
        side: the side of the split.
        count: number of compositions.
        tests: minimum number of cases for each.
        seen: keys of compositions to exclude; new ones are added.
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
