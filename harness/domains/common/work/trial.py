"""The stage that trains one trial of a method's tuning."""

from __future__ import annotations

from harness.domains.common.work.outcome import write_failure
from harness.domains.common.work.train import run_training
from harness.graph.stages import StageContext
from sparsepo.errors import DivergedError


def train_trial(context: StageContext) -> None:
    """Train as `train_policy` does; a run that diverges is a result too.

    Configuration and inputs are train_policy's. Writes its files, or, if a loss or a weight is not
    finite, failed.json with the `reason` and no model.
    """
    try:
        run_training(context)
    except DivergedError as error:
        write_failure(context, str(error))
