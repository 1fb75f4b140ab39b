"""Values of the tiny profile with which the sentiment figures take seconds; little is learned."""

from __future__ import annotations

SMALL = (
    "world.train_reviews=300",
    "world.test_reviews=60",
    "world.opinion_share=1",
    "data.train_prompts=32",
    "data.test_prompts=12",
    "data.test_pairs=6",
    "sampling.new_tokens=20",
    "base.steps=120",
    "base.layers=1",
    "base.width=32",
    "base.heads=2",
    "base.vocabulary_size=768",
    "po.batch_size=8",
    "po.device_batch_size=8",
    "sweep.beta=0.1,1",
    "sweep.simpo_beta=2",
    "sweep.simpo_gamma=1",
    "sweep.map_beta=1",
    "evaluation.steps=1",
    "statistics.replicates=50",
)
