"""How long stages will take on this machine, for the time left that a run shows."""

from __future__ import annotations

from collections.abc import Iterable

from harness.commands.plan.processor import processor_seconds
from harness.commands.plan.workloads import Workloads
from harness.graph.stages import Stage

_FOR_A_PROCESSOR = ("tiny", "laptop")
"""Profiles that are made for a processor, and planned for one where there is no GPU."""


def on_processor(profile: str, device: str) -> bool:
    """Return whether a run is planned for a processor, for which constants have been measured.

    Args:
        profile: its name.
        device: where models run, "cpu" or "cuda".
    """
    return device == "cpu" and profile in _FOR_A_PROCESSOR


def expected_seconds(stages: Iterable[Stage], profile: str, device: str) -> dict[str, float]:
    """Return the duration of each stage, as `plan` says it.

    Args:
        stages: the stages to run.
        profile: as for `on_processor`.
        device: as for `on_processor`.

    Returns:
        Address → seconds on one core; without stages whose size is not known, and empty if the run
        is not planned for a processor.
    """
    if not on_processor(profile, device):
        return {}
    workloads = Workloads()
    works = {stage.address: workloads.of(stage) for stage in stages}
    return {
        address: processor_seconds(work) for address, work in works.items() if work.unknown is None
    }
