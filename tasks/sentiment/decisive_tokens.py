"""The words of a text that decide its reward, and thus the preference of its pair."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparsepo.errors import UserError
from tasks.sentiment.rewards import RewardModel

PLACEHOLDER = "xyz"
"""Replaces a word that is removed, because some rules count the words up to a negation."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_TOLERANCE = 1e-9


def word_effects(
    texts: Sequence[str], reward: RewardModel, threshold: float = _TOLERANCE
) -> list[list[tuple[int, int, float]]]:
    """Return the words of each text whose removal changes its reward.

    effect(w) = R(text) − R(text with a meaningless word instead of w), which is exact for any
    reward model; it is positive for a word that increases the reward.

    Args:
        texts: whole reviews.
        reward: the reward model R.
        threshold: smallest |effect| of a decisive word. For a lexicon any change counts; a neural
            classifier changes a little with every word and needs a larger threshold.

    Returns:
        For each text (start, end, effect) of its decisive words, in characters, in order.
    """
    if threshold <= 0:
        raise UserError(f"The threshold of a word's effect must be positive, not {threshold}.")
    spans = [[match.span() for match in _WORD.finditer(text)] for text in texts]
    variants = [
        text[:start] + PLACEHOLDER + text[end:]
        for text, own in zip(texts, spans, strict=True)
        for start, end in own
    ]
    scores = reward([*texts, *variants])
    whole, changed = scores[: len(texts)], iter(scores[len(texts) :])
    return [
        [
            (start, end, effect)
            for start, end in own
            if abs(effect := score - next(changed)) >= threshold
        ]
        for score, own in zip(whole, spans, strict=True)
    ]


def label_tokens(
    offsets: Sequence[tuple[int, int]], deciding: Sequence[tuple[int, int, float]]
) -> list[bool]:
    """Return for each token whether it is part of a decisive word.

    Args:
        offsets: character spans of the tokens in the text; empty ones (special tokens) are never
            decisive. In byte-level vocabularies a leading space belongs to the token, not the word.
        deciding: the result of `word_effects`.
    """
    return [
        any(start < stop and end > begin for begin, stop, _ in deciding) and end > start
        for start, end in offsets
    ]
