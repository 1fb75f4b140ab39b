"""Sizes and shares of the world of movie reviews."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReviewWorldConfig:
    """Everything that determines the world's files; equal configurations write equal bytes."""

    seed: int = 0
    train_reviews: int = 16_000
    """Number of reviews for training the language model and for training prompts."""
    test_reviews: int = 1_000
    sentences: tuple[int, int] = (3, 4)
    """Smallest and largest number of sentences between a review's opening and its end."""
    opinion_share: float = 0.65
    """Share of those sentences that are opinions; the others are neutral facts."""
    leaning: float = 0.85
    """Probability that an opinion has its review's polarity."""
    mixed_share: float = 0.4
    """Share of neutral reviews, whose opinions have either polarity."""
    negation_share: float = 0.1
    """Share of "was …" opinions that negate a word of the other polarity ("was not good")."""
    booster_share: float = 0.1
    """Share of them with "very"."""
