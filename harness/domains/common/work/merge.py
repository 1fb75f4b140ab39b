"""The stage that merges a model's adapters into its weights, for what is trained from it."""

from __future__ import annotations

from harness.domains.common.work.files import MODEL, starting_model
from harness.graph.stages import StageContext
from sparsepo.models.adapters import merged
from sparsepo.training.loading import load_policy, load_tokenizer


def merge_adapters(context: StageContext) -> None:
    """Write model/, a whole model in float32 with its tokenizer.

    Inputs: "model", a run that trained adapters.
    """
    source = str(starting_model(context))
    whole = merged(load_policy(source, dtype="float32"))
    whole.save_pretrained(context.work / MODEL)
    load_tokenizer(source).save_pretrained(context.work / MODEL)
