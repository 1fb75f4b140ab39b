"""The stage that reads the summaries for supervised fine-tuning."""

from __future__ import annotations

from harness.domains.common.work.files import write_json, write_pairs
from harness.graph.stages import StageContext
from sparsepo.types import PreferencePair
from tasks.summarization.readers import as_prompt, read_prompts


def make_sft_pairs(context: StageContext) -> None:
    """Write train.jsonl, in which the chosen responses are the summaries, and report.json.

    Configuration: `source` (a hub id, or None for the file "sft" or the input "world"). SFT does
    not read rejected responses; they are the summaries too.
    """
    source = context.config["source"] or context.files.get("sft")
    data = read_prompts(source or context.inputs["world"] / "sft.jsonl", "train")
    pairs = []
    for one in data.prompts:
        summary = [{"role": "assistant", "content": one.reference}]
        pairs.append(PreferencePair(one.prompt_id, as_prompt(one.prompt), summary, summary))
    write_pairs(pairs, context.work / "train.jsonl")
    write_json(data.counts(), context.work / "report.json")
