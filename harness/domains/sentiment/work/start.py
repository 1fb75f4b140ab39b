"""The stage that evaluates the initial model of all runs."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM

from harness.domains.common.work.files import starting_model
from harness.domains.sentiment.work.evaluation import encoded_prompts, write_responses
from harness.graph.stages import StageContext


def evaluate_start(context: StageContext) -> None:
    """Write responses.jsonl with the evaluation at step 0, which all runs share.

    Configuration: `evaluations`, `seed`, `device`, `model`. A model's KL to itself is 0.
    """
    prompts, tokenizer = encoded_prompts(context)
    model: Any = AutoModelForCausalLM.from_pretrained(starting_model(context), dtype="float32")
    model.to(context.config["device"]).eval()
    write_responses(context, model, tokenizer, prompts, 0)
