"""What a check is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from benchmarks.clock import synchronize
from benchmarks.gpu.report import Verdict


class NotRunError(Exception):
    """A check cannot be run here; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where a check runs."""

    device: str
    """ "cpu" or "cuda"."""
    small: bool = False
    """Reduced sizes, to try the code itself."""
    seconds: float = 3600.0
    """The check's time; one of several parts leaves out what does not fit."""

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device == "cuda"

    def synchronize(self) -> None:
        """Wait until the device has done its work."""
        synchronize(self.device)


@dataclass(frozen=True)
class Finding:
    """What a check found: a check that fails raises an AssertionError instead."""

    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    """Numbers for the card's JSON."""
    verdict: Verdict = "passed"


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return ‖value − truth‖ / ‖truth‖; infinite if a value is not finite."""
    difference = value.double() - truth.double()
    error = float(difference.norm() / truth.double().norm().clamp(min=1e-300))
    return error if error == error else float("inf")
