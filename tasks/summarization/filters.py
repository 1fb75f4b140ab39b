"""The paper's filters of TL;DR pairs: similar lengths, and as many pairs of each subset."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sparsepo.errors import UserError
from sparsepo.types import PreferencePair

LONGEST_DIFFERENCE = 100
"""[paper] Pairs whose summaries differ by more words are dropped."""
LENGTHS_DIFFER = "lengths differ by more than {} words"


def length_difference(chosen: str, rejected: str) -> int:
    """Return |words of chosen − words of rejected|; words are what white space separates."""
    return abs(len(chosen.split()) - len(rejected.split()))


def draw_pairs(
    pairs: Sequence[PreferencePair], count: int | None, seed: int
) -> list[PreferencePair]:
    """Draw some of a subset's pairs without replacement, in their own order.

    Args:
        pairs: those of one subset and split.
        count: how many; None, or more than there are, for all.
        seed: of the draw.

    Raises:
        UserError: `count` is not positive.
    """
    if count is not None and count < 1:
        raise UserError(f"The number of pairs to draw must be at least 1, not {count}.")
    if count is None or count >= len(pairs):
        return list(pairs)
    kept = Random(f"{seed}/pairs").sample(range(len(pairs)), count)
    return [pairs[index] for index in sorted(kept)]
