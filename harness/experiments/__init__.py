"""The paper's tables and figures as typed specifications."""

from __future__ import annotations

from harness.experiments.figure1 import FIGURE1
from harness.experiments.figure2 import FIGURE2
from harness.experiments.figure3 import FIGURE3
from harness.experiments.figure4 import FIGURE4
from harness.experiments.figure6 import FIGURE6
from harness.experiments.figure7 import FIGURE7
from harness.experiments.figure8 import FIGURE8
from harness.experiments.figure9 import FIGURE9
from harness.experiments.spec import Experiment, FigureSpec, TableSpec
from harness.experiments.table1 import TABLE1
from harness.experiments.table2 import TABLE2
from sparsepo.errors import UserError, did_you_mean

__all__ = ["EXPERIMENTS", "Experiment", "FigureSpec", "TableSpec", "get_experiment"]

_SPECS = (
    TABLE1,
    TABLE2,
    FIGURE1,
    FIGURE2,
    FIGURE3,
    FIGURE4,
    FIGURE6,
    FIGURE7,
    FIGURE8,
    FIGURE9,
)
EXPERIMENTS: dict[str, Experiment] = {spec.id: spec for spec in _SPECS}


def get_experiment(kind: str, number: str) -> Experiment:
    """Return an experiment.

    Args:
        kind: "table" or "figure".
        number: as the user typed it, such as "1".

    Raises:
        UserError: if there is none of that number.
    """
    wanted = f"{kind}{number.strip().lower().removeprefix(kind)}"
    if wanted not in EXPERIMENTS:
        raise UserError(
            f"unknown {kind} {number}.{did_you_mean(wanted, EXPERIMENTS)} "
            "See them with: python -m harness list"
        )
    return EXPERIMENTS[wanted]
