"""The stage that reads preference pairs in DPO-mix's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domains.common.work.files import evenly_spaced, write_json, write_pairs
from harness.graph.stages import StageContext
from tasks.dialogue.dpo_mix import read_dpo_mix


def make_dpo_mix_pairs(context: StageContext) -> None:
    """Read DPO-mix's schema and write train.jsonl, test.jsonl and report.json.

    Configuration: `source` (a hub id, or None for the file "pairs"), `train_pairs` and `test_pairs`
    (caps or None).
    """
    source: str | Path = context.config["source"] or context.files["pairs"]
    report: dict[str, Any] = {}
    for split in ("train", "test"):
        data = read_dpo_mix(source, split)
        kept = evenly_spaced(data.pairs, context.config[f"{split}_pairs"])
        write_pairs(kept, context.work / f"{split}.jsonl")
        report[split] = {**data.report.counts(), "used": len(kept)}
    write_json(report, context.work / "report.json")
