"""Draws tables and figures again from a result's JSON; nothing is run."""

from __future__ import annotations

from pathlib import Path

from harness.commands.result_file import not_a_result, read_result_file
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
    result = read_result_file(file)
    name = result["id"]
    if name not in EXPERIMENTS:
        raise not_a_result(file)
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
