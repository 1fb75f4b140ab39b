"""All tables and figures, collected from the domains."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from harness.domains import DOMAINS
from harness.domains.common.spec import Experiment
from sparsepo.errors import UserError, did_you_mean


def _in_the_papers_order(spec: Experiment) -> tuple[bool, int]:
    kind = spec.id.rstrip("0123456789")
    return kind != "table", int(spec.id.removeprefix(kind) or 0)


def load_experiments(domains: Iterable[str]) -> dict[str, Experiment]:
    """Return the domains' experiments, id → experiment, tables before figures."""
    found = [
        spec
        for domain in domains
        for spec in importlib.import_module(f"harness.domains.{domain}.experiments").EXPERIMENTS
    ]
    return {spec.id: spec for spec in sorted(found, key=_in_the_papers_order)}


EXPERIMENTS = load_experiments(DOMAINS)
"""Id → experiment, for all domains."""


def get_experiment(kind: str, number: str) -> Experiment:
    """Return an experiment.

    Args:
        kind: "table" or "figure".
        number: its number as text, such as "1".

    Raises:
        UserError: there is no such experiment.
    """
    wanted = f"{kind}{number.strip().lower().removeprefix(kind)}"
    if wanted not in EXPERIMENTS:
        raise UserError(
            f"Unknown {kind} {number}.{did_you_mean(wanted, EXPERIMENTS)} "
            "See python -m harness list."
        )
    return EXPERIMENTS[wanted]
