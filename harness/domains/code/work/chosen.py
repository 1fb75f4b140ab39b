"""The stage that keeps the training run whose β was chosen."""

from __future__ import annotations

import json

from harness.domains.common.work.link import link_artefact
from harness.graph.stages import StageContext


def keep_chosen(context: StageContext) -> None:
    """Write the files of the chosen run again, as links where the file system has them.

    The final run of a method would repeat the run that tried the chosen β, value for value.

    Inputs: "tuned", whose tuned.json names the β; and the runs by β, such as "0.8".
    """
    tuned = json.loads((context.inputs["tuned"] / "tuned.json").read_text(encoding="utf-8"))
    chosen = context.inputs[f"{tuned['hyper_parameters']['beta']:g}"]
    link_artefact(chosen, context.work)
