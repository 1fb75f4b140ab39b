"""Training steps that are timed in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import steps
from benchmarks.measure import WARM_UP
from benchmarks.steps import steps_in_turn


def test_a_ratio_is_to_the_mean_of_dpos_steps_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    def timed(
        method: str, model: Path, pairs: object, count: int, after: Callable[[], None]
    ) -> list[float]:
        for _ in range(WARM_UP + count):
            order.append(method)
            after()
        # The machine gets slower.
        return [2.0 + 2.0 * i if method == "dpo" else 6.0 for i in range(count)]

    monkeypatch.setattr(steps, "step_seconds", timed)
    seconds, ratios, failures = steps_in_turn(["simpo", "dpo"], Path(), [], 2)
    assert order == ["dpo", "simpo", "dpo"] * (WARM_UP + 2) + ["dpo"]
    assert seconds == {"simpo": [6.0, 6.0], "dpo": [2.0, 4.0]}
    assert ratios == {"simpo": [2.0, 1.2], "dpo": [2.0 / 3.0, 0.8]}
    assert failures == {}


def test_without_dpo_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(method: str, *_: object) -> list[float]:
        raise ValueError(f"no {method}")

    monkeypatch.setattr(steps, "step_seconds", timed)
    with pytest.raises(ValueError, match="no dpo"):
        steps_in_turn(["simpo"], Path(), [], 2)
