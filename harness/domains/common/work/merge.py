"""The stage that merges a model's adapters into its weights, for what is trained from it."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer

from harness.domains.common.work.files import MODEL, starting_model
from harness.graph.stages import StageContext
from sparsepo.models.adapters import merged
from sparsepo.training.sources import from_source


def merge_adapters(context: StageContext) -> None:
    """Write model/, a whole model in float32 with its tokenizer.

    Inputs: "model", a run that trained adapters.
    """
    source = starting_model(context)
    whole = merged(from_source(source, {"dtype": "float32"}))
    whole.save_pretrained(context.work / MODEL)
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    tokenizer.save_pretrained(context.work / MODEL)
