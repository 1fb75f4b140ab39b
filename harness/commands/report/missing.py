"""What has no result yet, and the command that makes it."""

from __future__ import annotations

from collections.abc import Container

from harness.commands.made_by import selector
from harness.domains import get_domain
from harness.domains.catalogue import EXPERIMENTS


def missing_experiments(profile: str, there: Container[str]) -> list[dict[str, str]]:
    """Return the experiments without a result, with the command that runs each.

    Args:
        profile: the profile's name.
        there: ids of the experiments with a result.
    """
    return [
        {
            "name": experiment.id,
            "title": experiment.title,
            "domain": experiment.domain,
            "command": run_command(experiment.id, profile),
        }
        for experiment in EXPERIMENTS.values()
        if experiment.id not in there and profile in get_domain(experiment.domain).profiles
    ]


def run_command(id: str, profile: str, *, tuned: bool = False) -> str:
    """Return the command that runs an experiment with its profile's own values.

    Args:
        id: the experiment's.
        profile: the profile's name.
        tuned: with tuned rows.
    """
    parts = ["python -m harness run", *selector(id)]
    if profile != "tiny":
        parts.append(f"--profile {profile}")
    if tuned:
        parts.append("--tune")
    return " ".join(parts)
