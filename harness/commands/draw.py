"""Draws tables and figures again from a result's JSON; nothing is run."""

from __future__ import annotations

import json
from pathlib import Path

from harness.domains import get_domain
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.spec import Experiment
from harness.graph.files import write_files
from sparsepo.errors import UserError


def redraw(file: Path) -> Experiment:
    """Write the other files of a result next to its JSON.

    Args:
        file: `<id>.json` of a run.

    Returns:
        The experiment of the result.

    Raises:
        UserError: the file is not a result, or the disk is full or not writable.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UserError(f"{file} is not valid JSON; run its experiment again.") from None
    name = result.get("id") if isinstance(result, dict) else None
    if name not in EXPERIMENTS:
        raise UserError(
            f"{file} is not the result of an experiment; give the JSON file that a run wrote."
        )
    experiment = EXPERIMENTS[name]
    try:
        files = get_domain(experiment.domain).files(experiment, result)
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{file} was written by another version of this program; run {name} again, which "
            "reuses what it can from the store."
        ) from None
    write_files(file.parent, files)
    return experiment
