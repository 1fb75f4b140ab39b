"""The stage that reads the summaries for supervised fine-tuning."""

from __future__ import annotations

from harness.domains.common.work.files import write_json, write_pairs
from harness.graph.stages import StageContext
from sparsepo.types import Message, PreferencePair
from tasks.summarization.readers import as_prompt, read_prompts

# SFT does not learn from rejected responses, but a pair has one, and not the chosen one again.
_UNUSED: list[Message] = [{"role": "assistant", "content": "-"}]


def make_sft_pairs(context: StageContext) -> None:
    """Write train.jsonl, in which the chosen responses are the summaries, and report.json.

    Configuration: `source` (a hub id, or None for the file "sft" or the input "world").
    """
    source = context.config["source"] or context.files.get("sft")
    data = read_prompts(source or context.inputs["world"] / "sft.jsonl", "train")
    pairs = []
    for one in data.prompts:
        summary: list[Message] = [{"role": "assistant", "content": one.reference}]
        pairs.append(PreferencePair(one.prompt_id, as_prompt(one.prompt), summary, _UNUSED))
    write_pairs(pairs, context.work / "train.jsonl")
    write_json(data.counts(), context.work / "report.json")
