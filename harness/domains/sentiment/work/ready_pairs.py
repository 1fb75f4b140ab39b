"""The stage that reads ready-made preference pairs or scored samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domains.common.work.files import evenly_spaced, write_json, write_pairs
from harness.domains.sentiment.work.common import PROMPTS, SPLITS
from harness.graph.stages import StageContext
from tasks.sentiment.reviews import read_preferences


def read_pairs(context: StageContext) -> None:
    """Read ready-made pairs or scored samples: train.jsonl, test.jsonl, prompts.json, report.json.

    Configuration: `source` (a hub id, or None for the file "pairs"), `train_prompts`,
    `test_prompts` and `test_pairs` (caps).
    """
    config = context.config
    source: str | Path = config["source"] or context.files["pairs"]
    report: dict[str, Any] = {}
    for split in SPLITS:
        data = read_preferences(source, split)
        cap = config["train_prompts"] if split == "train" else config["test_pairs"]
        kept = evenly_spaced(data.pairs, cap)
        write_pairs(kept, context.work / f"{split}.jsonl")
        report[split] = {**data.report.counts(), "used": len(kept)}
        prompts = list(dict.fromkeys(str(pair.prompt) for pair in data.pairs))
    write_json(evenly_spaced(prompts, config["test_prompts"]), context.work / PROMPTS)
    write_json(report, context.work / "report.json")
