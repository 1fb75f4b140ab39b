"""The stage that reads preference pairs in HH's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.domains.common.work.files import evenly_spaced, write_json, write_pairs
from harness.graph.stages import StageContext
from tasks.dialogue.hh import read_hh


def make_pairs(context: StageContext) -> None:
    """Read HH's schema and write train.jsonl, test.jsonl and report.json.

    Configuration: `source` (a hub id, or None for the file "hh" or the input "world"),
    `train_pairs` and `test_pairs` (caps or None).
    """
    source: str | Path = context.config["source"] or context.files.get("hh", "")
    source = source or context.inputs["world"]
    report: dict[str, Any] = {}
    for split in ("train", "test"):
        data = read_hh(source, split)
        kept = evenly_spaced(data.pairs, context.config[f"{split}_pairs"])
        write_pairs(kept, context.work / f"{split}.jsonl")
        report[split] = {**data.report.counts(), "used": len(kept)}
    write_json(report, context.work / "report.json")
