"""The stage that reads the posts to be summarized."""

from __future__ import annotations

from typing import Any

from harness.domains.common.work.files import evenly_spaced, read_pairs_file, write_json
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from sparsepo.errors import UserError
from tasks.summarization.overlap import IN_TRAINING, posts_of, prompt_text, same_post
from tasks.summarization.readers import SummaryPrompt, read_prompts
from tasks.summarization.schemas import document_of


def make_prompts(context: StageContext) -> None:
    """Write prompts.jsonl (`prompt_id`, `prompt`, `document`, `reference`) and report.json.

    Configuration: `source` (a hub id, or None for the file "prompts" or the input "world" or
    "pairs"), `prompts` (a cap, evenly spaced; None for all). Without posts of their own, those of
    held-out pairs are taken, with the chosen summary as the reference. Posts of the training pairs,
    if there is the input "pairs", are left out and counted.

    Raises:
        UserError: no post is left.
    """
    source = context.config["source"] or context.files.get("prompts")
    report: dict[str, Any]
    if source is None and "pairs" in context.inputs:
        found = _of_pairs(context)
        report = {"rows": len(found), "kept": len(found), "skipped": {}}
    else:
        data = read_prompts(source or context.inputs["world"] / "prompts.jsonl")
        found, report = data.prompts, data.counts()
    if "pairs" in context.inputs:
        trained = posts_of(read_pairs_file(context.inputs["pairs"] / "train.jsonl"))
        fresh = [one for one in found if same_post(one.prompt) not in trained]
        if dropped := len(found) - len(fresh):
            skipped = {**report["skipped"], IN_TRAINING: dropped}
            report |= {"kept": len(fresh), "skipped": skipped}
        if not fresh:
            raise UserError(
                "Every post to be summarized is in the training pairs; give other posts."
            )
        found = fresh
    kept = evenly_spaced(found, context.config["prompts"])
    write_jsonl(
        (
            {
                "prompt_id": one.prompt_id,
                "prompt": one.prompt,
                "document": document_of(one.prompt),
                "reference": one.reference,
            }
            for one in kept
        ),
        context.work / "prompts.jsonl",
    )
    write_json({**report, "used": len(kept)}, context.work / "report.json")


def _of_pairs(context: StageContext) -> list[SummaryPrompt]:
    found: dict[str, SummaryPrompt] = {}
    for pair in read_pairs_file(context.inputs["pairs"] / "test.jsonl"):
        assert not isinstance(pair.chosen, str)
        prompt = prompt_text(pair)
        found.setdefault(
            prompt, SummaryPrompt(pair.pair_id, prompt, str(pair.chosen[-1]["content"]))
        )
    return list(found.values())
