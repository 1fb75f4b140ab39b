"""All tables and figures, collected from the domains."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable

from harness.domains import DOMAINS
from harness.domains.common.spec import Experiment
from sparsepo.errors import UserError, did_you_mean

_OF_THE_PAPER = re.compile(r"(table|figure)(\d+)")


def _in_order(spec: Experiment) -> tuple[int, int]:
    """The paper's tables, its figures, then what is beyond the paper, as its domain lists it."""
    found = _OF_THE_PAPER.fullmatch(spec.id)
    if found is None:
        return 2, 0
    return int(found[1] == "figure"), int(found[2])


def load_experiments(domains: Iterable[str]) -> dict[str, Experiment]:
    """Return the domains' experiments, id → experiment, the paper's tables and figures first."""
    found = [
        spec
        for domain in domains
        for spec in importlib.import_module(f"harness.domains.{domain}.experiments").EXPERIMENTS
    ]
    return {spec.id: spec for spec in sorted(found, key=_in_order)}


EXPERIMENTS = load_experiments(DOMAINS)
"""Id → experiment, for all domains."""


def get_experiments(kind: str, name: str) -> list[Experiment]:
    """Return the experiments of a group, or one as a list; see `get_experiment`."""
    given = name.strip().lower()
    group = [spec for spec in EXPERIMENTS.values() if spec.group == given]
    return group if group and kind == "table" else [get_experiment(kind, name)]


def get_experiment(kind: str, name: str) -> Experiment:
    """Return an experiment.

    Args:
        kind: "table" or "figure".
        name: the number of one of the paper's, such as "1", or the name of a table beyond the
            paper, such as "noise".

    Raises:
        UserError: there is no such experiment.
    """
    given = name.strip().lower()
    wanted = f"{kind}{given.removeprefix(kind)}"
    if wanted in EXPERIMENTS:
        return EXPERIMENTS[wanted]
    named = [id for id in EXPERIMENTS if _OF_THE_PAPER.fullmatch(id) is None]
    if given in named and kind == "table":
        return EXPERIMENTS[given]
    if given in named:
        raise UserError(f"{given} is a table; give --table {given}.")
    known = [id.removeprefix(kind) for id in EXPERIMENTS if id.startswith(kind)]
    if kind == "table":
        known += named + sorted({spec.group for spec in EXPERIMENTS.values() if spec.group})
    raise UserError(
        f"Unknown {kind} {name}.{did_you_mean(given, known)} See python -m harness list."
    )
