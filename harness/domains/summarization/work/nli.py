"""The stage that trains the tiny NLI model on the world's statements."""

from __future__ import annotations

import torch

from harness.domains.common.work.files import MODEL
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl
from tasks.metrics.text.nli_train import NliTrainingConfig, train_nli
from tasks.summarization.world.nli import HELD_OUT, TRAIN


def train_tiny_nli(context: StageContext) -> None:
    """Write model/, with its held-out accuracy in nli.json.

    Configuration: `config` (values that differ from NliTrainingConfig's).
    """
    torch.set_num_threads(context.threads)
    rows = list(read_jsonl(context.inputs["world"] / "nli.jsonl"))
    train_nli(
        [row for row in rows if row["split"] == TRAIN],
        [row for row in rows if row["split"] == HELD_OUT],
        context.work / MODEL,
        NliTrainingConfig(**context.config["config"]),
        lambda step, steps, loss: context.progress(step, steps, "steps"),
    )
