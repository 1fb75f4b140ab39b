"""Sizes and shares of the embedded world of code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodeWorldConfig:
    """Everything that determines the world's files; equal configurations write equal bytes."""

    seed: int = 0
    documents: int = 24_000
    """Documents of the base model's corpus."""
    mistake_shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.995)
    """Shares of mistakes in the corpus, which are assigned in turn, in a seeded order, to the
    operations that have mistakes."""
    humaneval_problems: int = 40
    mbpp_test: int = 50
    mbpp_train: int = 160
    mbpp_validation: int = 30
    tests: int = 6
    """Tests of a problem; the first is shown in its description."""
