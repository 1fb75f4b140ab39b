"""Shared by the stages of tuning: what a trial has come to, as files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.domains.common.work.files import write_json
from harness.graph.stages import StageContext
from sparsepo.errors import DivergedError

FAILED = "failed.json"
"""In the artefact of a run that has no model; `reason`."""
TRIAL = "trial.json"


@dataclass(frozen=True)
class Outcome:
    """What was measured on a trial's model with validation data."""

    state: Literal["complete", "failed"]
    value: float | None = None
    """The criterion's; higher is better. None for a failed trial."""
    second: float | None = None
    """What decides between equal values, where the criterion has it."""
    kl: float | None = None
    """Response-level KL to the reference, in nats, where the criterion has a budget for it."""
    reason: str | None = None
    """Why it failed."""


def write_failure(context: StageContext, reason: str) -> None:
    """Write failed.json in place of everything that the run has written."""
    for item in context.work.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    write_json({"reason": reason}, context.work / FAILED)


def write_outcome(context: StageContext, measure: Callable[[], Outcome]) -> None:
    """Write trial.json: what `measure` finds on the input "run", or why there is nothing.

    Args:
        context: with the trial's run as its input "run".
        measure: measures the run's model; a DivergedError is recorded as a failure.
    """
    failed = context.inputs["run"] / FAILED
    if failed.is_file():
        reason = json.loads(failed.read_text(encoding="utf-8"))["reason"]
        outcome = Outcome("failed", reason=reason)
    else:
        try:
            outcome = measure()
        except DivergedError as error:
            outcome = Outcome("failed", reason=str(error))
    numbers = [number for number in (outcome.value, outcome.kl) if number is not None]
    if not all(map(math.isfinite, numbers)):
        outcome = Outcome("failed", reason="What was measured on its responses is not finite.")
    write_json(asdict(outcome), context.work / TRIAL)


def read_outcome(folder: Path) -> Outcome:
    """Return what `write_outcome` has written."""
    return Outcome(**json.loads((folder / TRIAL).read_text(encoding="utf-8")))
