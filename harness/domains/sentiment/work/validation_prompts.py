"""The stage that cuts validation prompts from reviews that are used for nothing else."""

from __future__ import annotations

import json

from transformers import AutoTokenizer

from harness.domains.common.work.files import read_pairs_file, starting_model, write_json
from harness.domains.sentiment.work.common import PROMPTS, SPLITS, read_texts
from harness.graph.stages import StageContext
from tasks.sentiment.pairs import review_prefixes


def make_validation_prompts(context: StageContext) -> None:
    """Write prompts.json: beginnings of test reviews, none of which is a prompt elsewhere.

    Configuration: `prompts` (how many at most), `prefix_tokens`, `seed`, `model`. Inputs:
    "reviews", "pairs", and "model" unless it comes from outside.
    """
    config = context.config
    pairs = context.inputs["pairs"]
    used = json.loads((pairs / PROMPTS).read_text(encoding="utf-8"))
    for split in SPLITS:
        used += [str(pair.prompt) for pair in read_pairs_file(pairs / f"{split}.jsonl")]
    prompts = review_prefixes(
        read_texts(context.inputs["reviews"] / "test.jsonl"),
        AutoTokenizer.from_pretrained(starting_model(context)),
        config["prompts"],
        config["seed"],
        tuple(config["prefix_tokens"]),
        exclude=used,
    )
    write_json(prompts, context.work / PROMPTS)
