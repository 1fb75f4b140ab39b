"""The stage that reads preference pairs of TL;DR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domains.common.work.files import write_json, write_pairs
from harness.graph.stages import StageContext
from sparsepo.data.pairs import PairData
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.summarization.filters import draw_pairs
from tasks.summarization.overlap import IN_TRAINING, posts_of, prompt_text, same_post
from tasks.summarization.readers import read_tldr


def make_pairs(context: StageContext) -> None:
    """Read every subset and write train.jsonl, test.jsonl and report.json.

    Held-out pairs whose post is in a training pair, of any subset, are left out and counted.

    Configuration: `subsets` (name → a hub id, or None for the file of that name or the input
    "world"), `train_pairs` and `test_pairs` (drawn from each subset; None for all),
    `longest_difference`, `seed` (of the draw).

    Raises:
        UserError: no held-out pair is left.
    """
    config = context.config
    report: dict[str, Any] = {}
    trained: set[str] = set()
    for split in ("train", "test"):
        kept: list[PreferencePair] = []
        counted: dict[str, Any] = {}
        for name, hub in config["subsets"].items():
            data = _read(context, name, hub, split)
            fresh = [p for p in data.pairs if same_post(prompt_text(p)) not in trained]
            drawn = draw_pairs(fresh, config[f"{split}_pairs"], config["seed"])
            counts = data.report.counts()
            if dropped := len(data.pairs) - len(fresh):
                counts["kept"] -= dropped
                counts["skipped"] = {**counts["skipped"], IN_TRAINING: dropped}
            counted[name] = {**counts, "used": len(drawn)}
            kept += drawn
        if not kept:
            raise UserError(
                "The post of every held-out pair is in the training pairs; give held-out pairs of "
                "other posts."
            )
        trained = posts_of(kept)
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
