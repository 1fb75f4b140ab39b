"""The stage that makes preference pairs from samples, ranked by the reward."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from harness.domains.common.work.files import evenly_spaced, write_json, write_pairs
from harness.domains.sentiment.work.common import ACCURACY, PROMPTS, SAMPLES, SPLITS
from harness.domains.sentiment.work.reward import reward_of
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl
from tasks.sentiment.pairs import rank_samples
from tasks.sentiment.rewards import score_texts


def rank_completions(context: StageContext) -> None:
    """Rank samples by the reward: train.jsonl, test.jsonl, prompts.json and report.json.

    Configuration: `reward` (make_reward's arguments), `test_pairs` and `test_prompts` (caps).
    Prompts and completions are scored as one text.
    """
    reward = reward_of(context)
    rows = list(read_jsonl(context.inputs["samples"] / SAMPLES))
    report: dict[str, Any] = {"reward": reward.name, **_accuracy(context)}
    for split in SPLITS:
        own = [row for row in rows if row["split"] == split]
        texts = [row["prompt"] + text for row in own for text in row["completions"]]
        scored = score_texts(reward, texts).scores
        left = iter(scored)
        found = rank_samples(
            [row["prompt"] for row in own],
            [row["completions"] for row in own],
            [list(islice(left, len(row["completions"]))) for row in own],
            split,
        )
        cap = context.config["test_pairs"] if split == "test" else None
        kept = evenly_spaced(found.pairs, cap)
        write_pairs(kept, context.work / f"{split}.jsonl")
        known = [score for score in scored if score is not None]
        report[split] = {
            "rows": found.prompts,
            "kept": len(found.pairs),
            "used": len(kept),
            "skipped": dict(found.skipped),
            "mean_reward": sum(known) / len(known),
        }
        prompts = [row["prompt"] for row in own]
    write_json(evenly_spaced(prompts, context.config["test_prompts"]), context.work / PROMPTS)
    write_json(report, context.work / "report.json")


def _accuracy(context: StageContext) -> dict[str, Any]:
    """Return how well a reward that was trained here does on held-out texts."""
    if "classifier" not in context.inputs:
        return {}
    file = context.inputs["classifier"] / ACCURACY
    return {"classifier": json.loads(file.read_text(encoding="utf-8"))}
