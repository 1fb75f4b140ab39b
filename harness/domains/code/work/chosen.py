"""The stage that keeps the training run whose β was chosen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from harness.graph.stages import StageContext
from harness.graph.store import RECORD


def keep_chosen(context: StageContext) -> None:
    """Write the files of the chosen run again, as links where the file system has them.

    The final run of a method would repeat the run that tried the chosen β, value for value.

    Inputs: "tuned", whose tuned.json names the β; and the runs by β, such as "0.8".
    """
    tuned = json.loads((context.inputs["tuned"] / "tuned.json").read_text(encoding="utf-8"))
    chosen = context.inputs[f"{tuned['hyper_parameters']['beta']:g}"]
    for item in chosen.iterdir():
        if item.name == RECORD:
            continue
        if item.is_dir():
            shutil.copytree(item, context.work / item.name, copy_function=_link)
        else:
            _link(item, context.work / item.name)


def _link(source: str | Path, target: str | Path) -> None:
    # Artefacts are never changed, so that two may share a file.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
