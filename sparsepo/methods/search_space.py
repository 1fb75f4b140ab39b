"""What a method's tuning may vary: hyper-parameters and training settings with their ranges.

A method declares its `search_space`. Parameters that several methods share have one range, which is
defined here and says where it is from: a range that is chosen for one method would decide the
comparison. Nothing here affects a training run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Scale = Literal["log", "linear"]


@dataclass(frozen=True)
class Range:
    """The values between two numbers."""

    low: float
    high: float
    scale: Scale = "log"
    """Whether values are spread evenly by ratio ("log") or by difference ("linear")."""
    relative: bool = False
    """Whether `low` and `high` are factors of the profile's own value."""

    def at(self, share: float) -> float:
        """Return the value at a share of the range.

        Args:
            share: in [0, 1); 0 gives `low`.

        Returns:
            low · (high / low)^share on the log scale, low + (high − low) · share on the linear one.
        """
        if self.scale == "log":
            return self.low * math.pow(self.high / self.low, share)
        return self.low + (self.high - self.low) * share

    def problem(self) -> str | None:
        """Return what is wrong with the range, as the rest of a sentence, or None."""
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
                return f"has the end {end!r}, which is not a finite number"
        if self.scale not in ("log", "linear"):
            return f"has the scale {self.scale!r}, which is neither 'log' nor 'linear'"
        if self.low >= self.high:
            return f"begins at {self.low:g}, which is not below its end, {self.high:g}"
        if self.scale == "log" and self.low <= 0:
            return f"begins at {self.low:g}, but a range on the log scale must begin above 0"
        return None


@dataclass(frozen=True)
class Choice:
    """Some values, each as likely as the others."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value at a share of the list.

        Args:
            share: in [0, 1); 0 gives the first value.
        """
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def problem(self) -> str | None:
        """Return what is wrong with the list, as the rest of a sentence, or None."""
        if not isinstance(self.values, tuple) or len(self.values) < 2:
            return "has fewer than two values to choose from"
        if len({repr(value) for value in self.values}) < len(self.values):
            return "names a value twice"
        return None


SearchSpace = Mapping[str, Range | Choice]
"""Hyper-parameter or training setting → its values."""

LEARNING_RATE: Final = Range(1 / 3, 3.0, relative=True)
"""A factor of the profile's rate, because its scale depends on the model [ours]."""
BETA: Final = Range(0.01, 5.0)
"""β of the methods that sum log-ratios over tokens: the sweep of Figure 2, which contains every β
of the paper's experiments."""
MEAN_BETA: Final = Range(0.5, 10.0)
"""β of SimPO, which averages over tokens: the sweep of Figure 2, which contains the 2 and 2.5 of
its authors' released settings."""
GAMMA: Final = Range(0.3, 2.0)
"""SimPO's margin: contains the sweep of Figure 2, and all but the smallest of the 0.25 to 1.6 of
its authors' released settings."""
TARGET_BETA: Final = Range(1e-3, 1.0)
"""β of the squared losses, whose target is 1/(2β): contains the published 1e-3 of SPPO, 2e-3 of
Cal-DPO and 0.1 of IPO."""
NORMALISED_BETA: Final = Range(0.05, 10.0)
"""β of LN-DPO, which averages log-ratios over tokens: TRL's 0.1 up to the 10 of SimPO's range
[ours]."""
NLL_WEIGHT: Final = Range(0.01, 10.0)
"""Weight of a likelihood term beside a preference term (CPO, ORPO, SLiC-HF): a factor of ten and
more around the published 0.1 and 1 [ours]."""
PENALTY: Final = Range(5.0, 500.0)
"""DPOP's λ: a factor of ten around the 50 of arXiv 2402.13228."""
ALPHA: Final = Range(0.1, 2.0)
"""TDPO's weight of the KL term, around its 0.5 (arXiv 2404.11999) [ours]."""
L1_WEIGHT: Final = Choice((0.0, 1e-4, 1e-3))
"""SparsePO's L1 weights: the paper's 0 and 1e-3, and a value between them [ours]."""
MASK_LEARNING_RATE: Final = Choice(("auto", "policy"))
"""SparsePO's rate of the masks: this library's rule and the paper's, the policy's own rate."""
