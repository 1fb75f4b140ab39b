"""How long stages will take on this machine, for the time left that a run shows."""

from __future__ import annotations

from collections.abc import Iterable

from harness.commands.plan.processor import processor_seconds
from harness.commands.plan.workload import Workloads
from harness.graph.stages import Stage

ON_CPU = ("tiny", "laptop")
"""Profiles that are made for a processor, and planned for one where there is no GPU."""


def expected_seconds(stages: Iterable[Stage], profile: str, device: str) -> dict[str, float]:
    """Return the duration of each stage, as `plan` says it.

    Args:
        stages: the stages to run.
        profile: its name.
        device: where models run, "cpu" or "cuda".

    Returns:
        Address → seconds on one core; without stages whose size is not known, and empty where no
        constants have been measured: on a GPU, or in a profile that needs one.
    """
    if device != "cpu" or profile not in ON_CPU:
        return {}
    workloads = Workloads()
    works = {stage.address: workloads.of(stage) for stage in stages}
    return {
        address: processor_seconds(work) for address, work in works.items() if work.unknown is None
    }
