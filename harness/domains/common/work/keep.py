"""The stage that keeps the run of the chosen trial."""

from __future__ import annotations

import json

from harness.domains.common.work.choose import CHOICE
from harness.domains.common.work.link import link_artefact
from harness.graph.stages import StageContext


def keep_trial(context: StageContext) -> None:
    """Write the files of the chosen trial's run again, as links.

    Inputs: "choice", whose choice.json names a number; and the runs by number, such as "0".
    """
    choice = json.loads((context.inputs["choice"] / CHOICE).read_text(encoding="utf-8"))
    link_artefact(context.inputs[str(choice["chosen"])], context.work)
