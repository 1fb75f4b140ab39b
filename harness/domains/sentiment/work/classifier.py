"""The stage that trains the reward on labelled texts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from harness.domains.common.work.files import write_json
from harness.domains.sentiment.work.common import ACCURACY, CLASSIFIER
from harness.graph.stages import StageContext
from tasks.sentiment.classifier import SentenceEncoder
from tasks.sentiment.classifier_training import fit_classifier


def train_classifier(context: StageContext) -> None:
    """Write classifier.json, and accuracy.json with its accuracy on held-out texts.

    Configuration: `source` (a hub id, or None for the file "labelled"), `batch_size`, `device`.
    """
    config = context.config
    source: str | Path = config["source"] or context.files["labelled"]
    encode = SentenceEncoder(config["batch_size"], config["device"])
    classifier, accuracy = fit_classifier(source, encode)
    classifier.save(context.work / CLASSIFIER)
    write_json(asdict(accuracy), context.work / ACCURACY)
