"""Sizes and shares of the world of posts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostWorldConfig:
    """Everything that determines the world's files; equal configurations write equal bytes."""

    seed: int = 0
    documents: int = 20_000
    """Posts with a summary in the base model's corpus."""
    sft_rows: int = 1_000
    """Posts with a summary as their authors write them, for supervised fine-tuning."""
    train_pairs: int = 1_200
    test_pairs: int = 300
    test_prompts: int = 120
    """Held-out posts with a reference summary, which are summarized and scored."""
    nli_rows: int = 12_000
    """Statements for an entailment model, of which `nli_held_out` are not for training."""
    nli_held_out: int = 1_500
    details: tuple[int, int] = (3, 5)
    """Smallest and largest number of unimportant facts in a post."""
    short_share: float = 0.3
    """Share of the corpus's posts with no more than two unimportant facts, which are learned
    first."""
    stated_share: float = 0.85
    """Probability that a post gives a reason, and that it says how its author feels."""
    carelessness: float = 0.4
    """Probability of each defect of the corpus's summaries, where a post allows it."""
    sft_carelessness: float = 0.4
    """The same of the summaries for supervised fine-tuning."""
    chosen_carelessness: float = 0.1
    """The same of the better one of two summaries that are compared, and `rejected_carelessness`
    of the other one; which of them is preferred is decided by the truth."""
    rejected_carelessness: float = 0.5
    label_noise: float = 0.08
    """Probability that a pair's label is wrong, in both the training and the test file."""
