"""Filters of TL;DR: the paper's similar lengths and pairs of each subset; no post on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.summarization.schemas import document_of

LONGEST_DIFFERENCE = 100
"""[paper] Pairs whose summaries differ by more words are dropped."""
LENGTHS_DIFFER = "lengths differ by more than {} words"
IN_TRAINING = "post is in the training pairs"


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


def same_post(prompt: str) -> str:
    """Return what is equal for prompts of one post: without title and white space."""
    return " ".join(document_of(prompt).split())


def posts_of(pairs: Iterable[PreferencePair]) -> set[str]:
    """Return the posts of pairs in chat form, for `same_post`."""
    return {same_post(prompt_text(pair)) for pair in pairs}


def prompt_text(pair: PreferencePair) -> str:
    """Return the prompt of a pair in chat form, which is one user turn."""
    assert not isinstance(pair.prompt, str)
    return str(pair.prompt[-1]["content"])
