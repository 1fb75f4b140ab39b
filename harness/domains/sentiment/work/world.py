"""The stage that writes the embedded world of reviews."""

from __future__ import annotations

from typing import Any

from harness.domains.common.work.files import write_json
from harness.domains.sentiment.work.common import SPLITS, read_texts, write_texts
from harness.graph.stages import StageContext
from tasks.sentiment.world import ReviewWorldConfig, write_reviews


def make_world(context: StageContext) -> None:
    """Write the embedded world's reviews; the configuration is a ReviewWorldConfig's fields."""
    values: dict[str, Any] = dict(context.config)
    values["sentences"] = tuple(values["sentences"])
    write_reviews(ReviewWorldConfig(**values), context.work)
    texts = read_texts(context.work / "train.jsonl")
    write_texts(texts, context.work / "corpus.jsonl")
    write_json(
        {split: {"kept": len(read_texts(context.work / f"{split}.jsonl"))} for split in SPLITS},
        context.work / "report.json",
    )
