"""Stages that make data: the world, preference pairs, the base model's corpus, a check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.domains.common.work.files import (
    evenly_spaced,
    read_pairs_file,
    sources,
    write_json,
    write_pairs,
)
from harness.graph.stages import StageContext
from sparsepo.types import PreferencePair
from tasks.dialogue.hh import read_hh
from tasks.dialogue.world import WorldConfig, write_world
from tasks.dialogue.world.chat import render_chat
from tasks.leaderboard_v2.rows import describe_missing


def make_world(context: StageContext) -> None:
    """Write the embedded world; the configuration is a WorldConfig's fields."""
    context.progress(0, 1, "worlds")
    write_world(WorldConfig(**context.config), context.work)


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


def make_corpus(context: StageContext) -> None:
    """Add real training dialogues to the world's corpus, so that the base model can talk so.

    Both responses of a pair are written: the base model learns to talk, not to prefer.
    """
    pairs = read_pairs_file(context.inputs["pairs"] / "train.jsonl")
    world = (context.inputs["world"] / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    dialogues = [
        json.dumps({"text": _render(pair, response)}, ensure_ascii=False)
        for pair in pairs
        for response in (pair.chosen, pair.rejected)
    ]
    # Spread evenly, because the base model reads its documents in windows of neighbours.
    step = max(1, len(world) // max(1, len(dialogues)))
    lines: list[str] = []
    for index, line in enumerate(world):
        lines.append(line)
        if index % step == 0 and dialogues:
            lines.append(dialogues.pop())
    text = "\n".join([*lines, *dialogues]) + "\n"
    (context.work / "corpus.jsonl").write_text(text, encoding="utf-8")


def _render(pair: PreferencePair, response: Any) -> str:
    assert not isinstance(pair.prompt, str)
    turns = [(str(m["role"]), str(m["content"])) for m in [*pair.prompt, *response]]
    return render_chat(turns)


def check_benchmarks(context: StageContext) -> None:
    """Read every local benchmark file, so that a broken one is found before any training."""
    write_json(describe_missing(sources(context)), context.work / "missing.json")
