"""Which words of a text decide its reward, and hence the preference of the pair it belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparsepo.errors import UserError
from tasks.sentiment.rewards import RewardModel

PLACEHOLDER = "xyz"
"""Stands in for a word that is taken out: rules that count words to a negation count it too."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_TOLERANCE = 1e-9


def word_effects(
    texts: Sequence[str], reward: RewardModel, threshold: float = _TOLERANCE
) -> list[list[tuple[int, int, float]]]:
    """Return the words of each text without which its reward would be another one.

    effect(w) = R(text) − R(text with a meaningless word in w's place): exact for the reward at
    hand, whatever rules it follows; positive for a word that raises the reward.

    Args:
        texts: whole reviews.
        reward: the reward model R.
        threshold: smallest |effect| that counts. Any change counts for a lexicon; a neural
            classifier moves a little with every word, so that it needs a real threshold.

    Returns:
        For each text (start, end, effect) of its deciding words, by character, in order.
    """
    if threshold <= 0:
        raise UserError(f"The threshold of a word's effect must be above 0, not {threshold}.")
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
    """Say of each token whether it is part of a deciding word.

    Args:
        offsets: character spans of the tokens in the text; empty ones (special tokens) decide
            nothing. A leading space belongs to the token of byte-level vocabularies, not the word.
        deciding: from `word_effects`.
    """
    return [
        any(start < stop and end > begin for begin, stop, _ in deciding) and end > start
        for start, end in offsets
    ]
