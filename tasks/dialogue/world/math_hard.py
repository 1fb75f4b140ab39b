"""Small sums in MATH's schema, in the prompt format of lm-eval's leaderboard_math_*_hard.

They are marked "Level 5" because the leaderboard uses only that level.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tasks.dialogue.world.example import Example, Skill
from tasks.dialogue.world.words import COUNTABLE, NAMES


def _example(subject: str, problem: str, steps: str, result: int) -> Example:
    solution = f"${steps}=\\boxed{{{result}}}$."
    return Example(
        key=f"math/{subject}/{problem}",
        context=f"Problem:\n{problem}\n\nSolution:",
        answer=f" {solution}",
        row={"problem": problem, "solution": solution, "level": "Level 5", "type": subject},
    )


def prealgebra(rng: Random) -> Example:
    """Add two small numbers of things."""
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    name, thing = rng.choice(NAMES), rng.choice(COUNTABLE["fruits"])
    problem = f"{name} has {first} {thing}s and gets {second} more. How many in all?"
    return _example("Prealgebra", problem, f"{first}+{second}", first + second)


def geometry(rng: Random) -> Example:
    """Half the perimeter of a rectangle."""
    width, height = rng.randint(1, 9), rng.randint(1, 9)
    name = rng.choice(NAMES)
    problem = (
        f"{name} draws a rectangle with sides ${width}$ and ${height}$. Find half its perimeter."
    )
    return _example("Geometry", problem, f"{width}+{height}", width + height)


def counting(rng: Random) -> Example:
    """Choose one thing of either kind."""
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    one, other = rng.sample(COUNTABLE["tools"], 2)
    problem = f"In how many ways can one pick one of {first} {one}s or one of {second} {other}s?"
    return _example("Counting & Probability", problem, f"{first}+{second}", first + second)


def number_theory(rng: Random) -> Example:
    """Last digit of a two-digit number."""
    tens, ones = rng.randint(1, 9), rng.randint(0, 9)
    name = rng.choice(NAMES)
    problem = f"{name} thinks of the number ${tens}{ones}$. What is its last digit?"
    return _example("Number Theory", problem, f"{tens}{ones}-{tens}0", ones)


def _skill(sample: Callable[[Random], Example], subject: str) -> Skill:
    return Skill("math_hard", subject, sample, 0.75)


SKILLS = (
    _skill(prealgebra, "Prealgebra"),
    _skill(geometry, "Geometry"),
    _skill(counting, "Counting & Probability"),
    _skill(number_theory, "Number Theory"),
)
