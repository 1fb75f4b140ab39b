"""The stage that reads preference pairs of TL;DR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domains.common.work.files import write_json, write_pairs
from harness.graph.stages import StageContext
from sparsepo.data.pairs import PairData
from sparsepo.types import PreferencePair
from tasks.summarization.filters import draw_pairs
from tasks.summarization.readers import read_tldr


def make_pairs(context: StageContext) -> None:
    """Read every subset and write train.jsonl, test.jsonl and report.json.

    Configuration: `subsets` (name → a hub id, or None for the file of that name or the input
    "world"), `train_pairs` and `test_pairs` (drawn from each subset; None for all),
    `longest_difference`, `seed` (of the draw).
    """
    config = context.config
    report: dict[str, Any] = {}
    for split in ("train", "test"):
        kept: list[PreferencePair] = []
        counted: dict[str, Any] = {}
        for name, hub in config["subsets"].items():
            data = _read(context, name, hub, split)
            drawn = draw_pairs(data.pairs, config[f"{split}_pairs"], config["seed"])
            counted[name] = {**data.report.counts(), "used": len(drawn)}
            kept += drawn
        write_pairs(kept, context.work / f"{split}.jsonl")
        report[split] = {"used": len(kept), "subsets": counted}
    write_json(report, context.work / "report.json")


def _read(context: StageContext, name: str, hub: str | None, split: str) -> PairData:
    source: str | Path = hub or context.files.get(name, "") or context.inputs["world"]
    # In the hub's data set, ratings are the subset "axis".
    subset = "axis" if name == "tldr_rated" else "comparisons"
    return read_tldr(
        source,
        split,
        subset=subset if hub == "openai/summarize_from_feedback" else None,
        longest_difference=context.config["longest_difference"],
    )
