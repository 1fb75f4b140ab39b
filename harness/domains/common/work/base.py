"""The stage that trains the tiny base model from scratch."""

from __future__ import annotations

import torch

from harness.domains.common.work.files import MODEL
from harness.graph.stages import StageContext
from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import train_base_model


def train_base(context: StageContext) -> None:
    """Write model/, trained on corpus.jsonl; the configuration is a BaseModelConfig's fields."""
    torch.set_num_threads(context.threads)
    corpus = context.inputs["corpus"] / "corpus.jsonl"
    train_base_model(
        BaseModelConfig(**context.config),
        corpus,
        context.work / MODEL,
        lambda step, steps, loss: context.progress(step, steps, "steps"),
    )
