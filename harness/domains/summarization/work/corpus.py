"""The stage that makes the corpus of a base model from real posts."""

from __future__ import annotations

from typing import Any

from harness.domains.common.work.files import read_pairs_file
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from tasks.models.chat_text import render_chat
from tasks.models.special_tokens import EOS


def make_corpus(context: StageContext) -> None:
    """Write corpus.jsonl: the training posts with each of their summaries, in the chat format.

    Both summaries of a pair are written, because the base model learns to write, not to prefer.
    """
    pairs = list(read_pairs_file(context.inputs["pairs"] / "train.jsonl"))
    if "sft" in context.inputs:
        pairs += read_pairs_file(context.inputs["sft"] / "train.jsonl")
    rows: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        assert not isinstance(pair.prompt, str)
        prompt = str(pair.prompt[-1]["content"])
        for response in (pair.chosen, pair.rejected):
            assert not isinstance(response, str)
            summary = str(response[-1]["content"])
            text = render_chat([("user", prompt), ("assistant", summary)])
            start = text.rindex(summary + EOS)
            rows[text] = {"text": text, "answers": [[start, start + len(summary + EOS)]]}
    write_jsonl(rows.values(), context.work / "corpus.jsonl")
