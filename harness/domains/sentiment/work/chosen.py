"""The stage that trains with the settings of the chosen trial."""

from __future__ import annotations

import json
from dataclasses import replace

from harness.domains.common.work.choose import CHOICE
from harness.domains.sentiment.work.train import train_and_evaluate
from harness.graph.stages import StageContext


def train_chosen(context: StageContext) -> None:
    """Do the same as `train_and_evaluate`, with the settings that choice.json names.

    Input: "choice", beside train_and_evaluate's.
    """
    choice = json.loads((context.inputs["choice"] / CHOICE).read_text(encoding="utf-8"))
    training, hyper_parameters = (
        dict(context.config[group]) for group in ("training", "hyper_parameters")
    )
    for name, value in choice["settings"].items():
        (training if name in training else hyper_parameters)[name] = value
    changed = {**context.config, "training": training, "hyper_parameters": hyper_parameters}
    train_and_evaluate(replace(context, config=changed))
