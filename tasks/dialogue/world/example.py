"""One checkable question: its prompt as lm-eval renders it, its answer, its leaderboard row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Row = dict[str, Any]

HELD_OUT_SHARE = 0.25
"""Share of all possible instances that are reserved for the leaderboard."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question of one leaderboard family."""

    key: str
    """The instance's identity, which determines its side of the held-out split."""
    context: str
    """The prompt exactly as lm-eval's task definition renders `row`."""
    answer: str
    """The correct continuation, with the delimiter that lm-eval puts before it."""
    row: Row
    """The row in the benchmark's own schema."""


@dataclass(frozen=True, slots=True)
class Skill:
    """A generator of examples of one benchmark's sub-task."""

    benchmark: str
    name: str
    """Sub-task as the leaderboard names it, e.g. a BBH subset or a MuSR split."""
    sample: Callable[[Random], Example]
    weight: float = 1.0
    """How often it occurs in the corpus, relative to other skills."""


def is_held_out(key: str, share: float = HELD_OUT_SHARE) -> bool:
    """Return on which side of the split an instance is, by a hash of its content.

    Args:
        key: the instance's identity (`Example.key`).
        share: expected share of held-out instances, in [0, 1].

    Returns:
        True if the instance belongs to the leaderboard rows only.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def sample_side(skill: Skill, rng: Random, held_out: bool, attempts: int = 1000) -> Example:
    """Draw one example of `skill` from the corpus side or the held-out side.

    Raises:
        ValueError: all `attempts` draws are on the other side (the skill is too small).
    """
    for _ in range(attempts):
        example = skill.sample(rng)
        if is_held_out(example.key) == held_out:
            return example
    raise ValueError(f"skill {skill.benchmark}/{skill.name} has no instance on the asked side")
