"""What Figure 2 has of each method: how far it goes, and what it gains there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.commands.claims.columns import (
    POINTS,
    Column,
    MissingQuantityError,
    Results,
    plain_values,
)
from tasks.metrics.significance import FloatArray

SHARE_LIMIT = 0.5
"""A point has a high KL above this share of the baselines' largest [ours]."""


@dataclass(frozen=True)
class Frontier:
    """One number per method and chain, from the points of Figure 2.

    KL is compared in logarithms: a method's KL varies the more, the larger it is, and tests of a
    column assume equal variances.
    """

    quantity: str
    """last_kl, last_reward: mean over β at the last step; largest_kl, best_reward: over all points;
    high_kl: share of the points beyond half of the baselines' largest KL."""
    baselines: tuple[str, ...] = ()
    """Those of high_kl."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """Return Figure 2."""
        return ("figure2",)

    def column(self, results: Results) -> Column:
        """Return one row per method with a policy that was trained."""
        result = results["figure2"]
        trained = {}
        for method in result.get("methods", []):
            points = [p for p in method["points"] if p["step"] > 0]
            if points:
                trained[method["id"]] = _Points(method["label"], points)
        if not trained:
            raise MissingQuantityError("figure2 has no points")
        label, unit, read = _QUANTITIES[self.quantity]
        limit = self._limit(trained) if self.quantity == "high_kl" else None
        values = {
            key: plain_values(read(own, limit), own.items, result) for key, own in trained.items()
        }
        return Column(label, unit, values, {key: own.label for key, own in trained.items()})

    def _limit(self, trained: Mapping[str, _Points]) -> FloatArray:
        found = [trained[key].kl.max(axis=0) for key in self.baselines if key in trained]
        if len(found) < len(self.baselines):
            raise MissingQuantityError("figure2 lacks one of the baselines")
        limit: FloatArray = SHARE_LIMIT * np.max(found, axis=0)
        return limit


class _Points:
    """The points of a method, (points, chains)."""

    def __init__(self, label: str, points: Sequence[Mapping[str, Any]]) -> None:
        self.label = label
        self.kl = _stack([p["kl"] for p in points])
        self.reward = _stack([p["reward"] for p in points])
        self.items = min(int(p["n"]) for p in points)
        steps = np.array([p["step"] for p in points])
        self.last = steps == steps.max()


def _stack(cells: Sequence[Mapping[str, Any]]) -> FloatArray:
    chains = {len(cell.get("per_chain") or ()) for cell in cells}
    if len(chains) != 1 or chains == {0}:
        raise MissingQuantityError("figure2 was made without the values of each chain")
    return np.array([cell["per_chain"] for cell in cells], dtype=np.float64)


def _logarithm(values: FloatArray) -> FloatArray:
    found: FloatArray = np.log(np.maximum(values, 1e-6))
    return found


def _given(limit: FloatArray | None) -> FloatArray:
    assert limit is not None, "the quantity needs the baselines' KL"
    return limit


_Read = Callable[[_Points, FloatArray | None], FloatArray]
_QUANTITIES: Mapping[str, tuple[str, str, _Read]] = {
    "last_kl": (
        "ln KL at the last step",
        "ln nats",
        lambda own, _: _logarithm(own.kl[own.last].mean(axis=0)),
    ),
    "last_reward": (
        "reward at the last step",
        POINTS,
        lambda own, _: own.reward[own.last].mean(axis=0),
    ),
    "largest_kl": ("ln largest KL", "ln nats", lambda own, _: _logarithm(own.kl.max(axis=0))),
    "best_reward": ("best reward", POINTS, lambda own, _: own.reward.max(axis=0)),
    "high_kl": (
        "share of points at high KL",
        POINTS,
        lambda own, limit: 100.0 * (own.kl > _given(limit)).mean(axis=0),
    ),
}
