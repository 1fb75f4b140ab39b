"""The stage that computes the reference's log-probabilities once, for all methods and seeds."""

from __future__ import annotations

import shutil

from harness.domains.common.work.files import read_pairs_file, starting_model
from harness.domains.common.work.train import (
    REFERENCE_CACHE,
    adapter_arguments,
    data_arguments,
)
from harness.graph.report import Report
from harness.graph.stages import StageContext
from sparsepo.reference.cache import seal
from sparsepo.training.config import POConfig
from sparsepo.training.trainer import POTrainer


def build_reference_cache(context: StageContext) -> None:
    """Write reference/, a cache with log-probabilities and MaPO's mask of all training pairs.

    Configuration: `mask` (hyper-parameters of MaPO's mask), `training` (the fields of
    TrainingSettings that affect tokens and precision, and those of adapters if the model is
    quantized), `device`, `model`. The cache is sealed: a training run that needs a value that is
    not in it fails instead of computing it.
    """
    cache = context.work / REFERENCE_CACHE
    unused = context.work / "unused"
    pairs = context.inputs["pairs"]
    training = context.config["training"]
    # A quantized reference has other values than the checkpoint, and needs adapters beside it.
    adapters = adapter_arguments(training) if "load_in_4bit" in training else {}
    validation = pairs / "validation.jsonl"
    # MaPO's trainer computes everything that any method reads.
    POTrainer(
        model=str(starting_model(context)),
        args=POConfig(
            output_dir=str(unused),
            method="mapo",
            method_args=dict(context.config["mask"]),
            reference_cache=str(cache),
            disable_tqdm=True,
            report_to="none",
            **adapters,
            **data_arguments(context.config),
        ),
        train_dataset=read_pairs_file(pairs / "train.jsonl"),
        eval_dataset=read_pairs_file(validation) if validation.is_file() else None,
        callbacks=[Report(context)],
    )
    shutil.rmtree(unused, ignore_errors=True)
    seal(cache)
