"""The stage that reads real reviews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domains.common.work.files import write_json
from harness.domains.sentiment.work.common import SPLITS, read_texts, write_texts
from harness.graph.stages import StageContext
from tasks.sentiment.reviews import read_reviews


def make_reviews(context: StageContext) -> None:
    """Read reviews: train.jsonl, test.jsonl, corpus.jsonl (the training texts) and report.json.

    Configuration: `source`, a hub id or None for the file "reviews".
    """
    source: str | Path = context.config["source"] or context.files["reviews"]
    report: dict[str, Any] = {}
    for split in SPLITS:
        data = read_reviews(source, split)
        write_texts(data.texts, context.work / f"{split}.jsonl")
        report[split] = data.report.counts()
    write_json(report, context.work / "report.json")
    write_texts(read_texts(context.work / "train.jsonl"), context.work / "corpus.jsonl")
