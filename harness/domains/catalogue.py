"""Every table and figure that there is, found through the domains."""

from __future__ import annotations

import importlib

from harness.domains import DOMAINS
from harness.domains.common.spec import Experiment
from sparsepo.errors import UserError, did_you_mean


def _in_the_papers_order(spec: Experiment) -> tuple[bool, int]:
    kind = spec.id.rstrip("0123456789")
    return kind != "table", int(spec.id.removeprefix(kind) or 0)


EXPERIMENTS: dict[str, Experiment] = {
    spec.id: spec
    for spec in sorted(
        (
            spec
            for domain in DOMAINS
            for spec in importlib.import_module(f"harness.domains.{domain}.experiments").EXPERIMENTS
        ),
        key=_in_the_papers_order,
    )
}
"""Id → experiment, tables before figures."""


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
            f"Unknown {kind} {number}.{did_you_mean(wanted, EXPERIMENTS)} "
            "See python -m harness list."
        )
    return EXPERIMENTS[wanted]
