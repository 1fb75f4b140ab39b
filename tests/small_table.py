"""Values of the tiny profile with which Table 1 takes seconds, and nothing is learned."""

from __future__ import annotations

SMALL = (
    "world.documents=600",
    "world.train_pairs=32",
    "world.test_pairs=10",
    "base.steps=3",
    "base.layers=1",
    "base.width=32",
    "base.heads=2",
    "base.vocabulary_size=400",
    *(f"world.rows.{name}=6" for name in ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro")),
    "world.rows.ifeval=4",
    "evaluation.win_rate_prompts=6",
    "evaluation.response_tokens=8",
    "evaluation.ifeval_tokens=8",
    "statistics.replicates=100",
)
