"""What the laptop benchmark measures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.measure import Measurement


@dataclass
class Shares:
    """A step's seconds, and those of its matrix products alone, round by round."""

    label: str
    system: str
    step: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    """Of projections and head."""
    with_attention: list[float] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)

    def share(self, products: Sequence[float]) -> float:
        """Return the products' median share of the step."""
        return statistics.median(
            alone / step for alone, step in zip(products, self.step, strict=True)
        )


@dataclass
class Samples:
    """Response tokens per second, by round."""

    model: str
    title: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Speed of the engine relative to `generate`."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass
class Found:
    """Everything that a run measures."""

    weights: dict[str, str] = field(default_factory=dict)
    """Model → where its weights are from."""
    steps: list[Measurement] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
