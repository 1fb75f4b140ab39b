"""Sizes and shares of the world of movie reviews."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReviewWorldConfig:
    """Everything that decides the world's files; equal configurations write equal bytes."""

    seed: int = 0
    train_reviews: int = 16_000
    """Reviews that the language model learns from and that training prompts are cut from."""
    test_reviews: int = 1_000
    sentences: tuple[int, int] = (3, 4)
    """Fewest and most sentences between a review's opening and its end."""
    opinion_share: float = 0.65
    """Share of those sentences that judge; the others tell something neutral."""
    leaning: float = 0.85
    """Probability that an opinion has its review's polarity."""
    mixed_share: float = 0.4
    """Share of reviews without a leaning, whose opinions are of either polarity."""
    negation_share: float = 0.1
    """Share of "was …" opinions that negate a word of the other polarity ("was not good")."""
    booster_share: float = 0.1
    """Share of them with "very"."""
