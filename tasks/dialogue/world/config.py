"""Sizes and shares of the embedded world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BENCHMARKS = ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval")


def _default_rows() -> dict[str, int]:
    return {"bbh": 200, "math_hard": 80, "gpqa": 150, "musr": 150, "mmlu_pro": 150, "ifeval": 600}


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Everything that determines the world's files; equal configurations write equal bytes."""

    seed: int = 0
    documents: int = 30_000
    """Documents of the base-model corpus."""
    skill_share: float = 0.75
    """Share of documents with a skill; the others are dialogues and plain facts."""
    talk_share: float = 0.2
    """Share of documents that are dialogues."""
    good_talk_share: float = 0.4
    """Share of corpus dialogues whose answer is one that the preference rules prefer."""
    noise_share: float = 0.3
    """Share of skill documents that begin with meaningless text."""
    noise_words: int = 16
    """Longest such text, in words."""
    train_pairs: int = 1500
    test_pairs: int = 900
    harmful_share: float = 0.3
    """Share of requests that ask for harm."""
    multi_turn_share: float = 0.3
    instructed_share: float = 0.12
    """Share of training pairs whose request has one of IFEval's instructions (`instructed.py`)."""
    label_noise: float = 0.08
    """Probability that a pair's label is wrong, in both the training and the test file."""
    rows: Mapping[str, int] = field(default_factory=_default_rows)
    """Held-out rows of each benchmark, spread evenly over its sub-tasks."""
    fewshot_rows: int = 2
    """MMLU-Pro validation rows, which lm-eval puts before each question (five at most). A prompt
    with two of them has as many questions as a corpus document, and fits into the context."""
