"""One evaluation of a policy: a response per held-out prompt, with its log-probability."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from harness.domains.common.work.files import starting_model
from harness.domains.common.work.generation import batch_size
from harness.domains.sentiment.work.common import PROMPTS, RESPONSES
from harness.graph.stages import StageContext
from sparsepo.batches.tokenize import encode_prompts
from sparsepo.data.jsonl import write_jsonl
from tasks.metrics.response_kl import sequence_logps
from tasks.models.generation import prompt_room, sample_ids


@dataclass(frozen=True)
class Prompts:
    """The prompts that are answered at each evaluation."""

    ids: list[list[int]]
    truncated: int
    """Number of prompts truncated from the left to fit the context."""


def encoded_prompts(context: StageContext) -> tuple[Prompts, Any]:
    """Return the prompts that are answered at each evaluation, and the tokenizer."""
    place = starting_model(context)
    tokenizer: Any = AutoTokenizer.from_pretrained(place)
    positions = getattr(AutoConfig.from_pretrained(place), "max_position_embeddings", None)
    new_tokens = context.config["evaluations"]["new_tokens"]
    room = prompt_room(positions, new_tokens, f"sampling.new_tokens={new_tokens}")
    prompts = json.loads((context.inputs["pairs"] / PROMPTS).read_text(encoding="utf-8"))
    whole = encode_prompts(prompts, tokenizer)
    return Prompts(
        encode_prompts(prompts, tokenizer, max_prompt_length=room),
        sum(room is not None and len(ids) > room for ids in whole),
    ), tokenizer


def write_responses(
    context: StageContext, model: Any, tokenizer: Any, prompts: Prompts, step: int
) -> None:
    """Append one response per prompt, sampled at temperature 1, with its log-probability."""
    values = context.config["evaluations"]
    sampled = sample_ids(
        model,
        prompts.ids,
        tokenizer,
        max_new_tokens=values["new_tokens"],
        batch_size=batch_size(context),
        seed=values["seed"] + context.config["seed"],
    )
    logps = sequence_logps(model, prompts.ids, sampled.ids, values["batch_size"])
    row = {
        "step": step,
        "prompts": prompts.ids,
        "truncated_prompts": prompts.truncated,
        "ids": sampled.ids,
        "unfinished": sampled.unfinished,
        "logps": logps,
    }
    write_jsonl([row], context.work / RESPONSES, append=True)
