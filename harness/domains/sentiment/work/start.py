"""The stage that looks at the model from which every run starts."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM

from harness.domains.common.work.files import starting_model
from harness.domains.sentiment.work.looks import encoded_prompts, write_look
from harness.graph.stages import StageContext


def look_at_start(context: StageContext) -> None:
    """Write responses.jsonl with the one look at step 0 that every run begins with.

    Configuration: `looks`, `seed`, `device`, `model`. A model's KL to itself is 0.
    """
    prompts, tokenizer = encoded_prompts(context)
    model: Any = AutoModelForCausalLM.from_pretrained(starting_model(context))
    model.to(context.config["device"]).eval()
    write_look(context, model, tokenizer, prompts, 0)
