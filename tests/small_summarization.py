"""Values of the tiny profile with which Figure 5 takes seconds; nothing is learned."""

from __future__ import annotations

SMALL = (
    "world.documents=80",
    "world.sft_rows=8",
    "world.train_pairs=16",
    "world.test_pairs=8",
    "world.test_prompts=6",
    "world.nli_rows=200",
    "world.nli_held_out=40",
    "base.steps=4",
    "base.layers=1",
    "base.width=32",
    "base.heads=2",
    "base.vocabulary_size=600",
    "sft.batch_size=8",
    "sft.device_batch_size=8",
    "po.batch_size=8",
    "po.device_batch_size=8",
    "sampling.prompts=5",
    "sampling.samples=2",
    "sampling.new_tokens=12",
    "sampling.temperatures=0,1",
    "sampling.win_rate_prompts=4",
    "metrics.nli_epochs=1",
    "statistics.replicates=40",
)
