"""Jobs that take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from benchmarks.turns import in_turn


def _noting(notes: list[str], name: str, steps: int) -> Callable[[Callable[[], None]], None]:
    def job(pass_on: Callable[[], None]) -> None:
        for step in range(steps):
            notes.append(f"{name}{step}")
            pass_on()
        notes.append(f"{name} ends")

    return job


def test_one_job_runs_at_a_time_in_their_order() -> None:
    notes: list[str] = []
    steps = {"a": 2, "b": 1, "c": 3}
    assert in_turn({name: _noting(notes, name, count) for name, count in steps.items()}) == {}
    assert notes == ["a0", "b0", "c0", "a1", "b ends", "c1", "a ends", "c2", "c ends"]


def test_the_others_go_on_after_an_error() -> None:
    notes: list[str] = []

    def fails(pass_on: Callable[[], None]) -> None:
        pass_on()
        raise ValueError("no more")

    failures = in_turn({"a": _noting(notes, "a", 2), "bad": fails, "c": _noting(notes, "c", 2)})
    assert {name: str(error) for name, error in failures.items()} == {"bad": "no more"}
    assert notes == ["a0", "c0", "a1", "c1", "a ends", "c ends"]


def test_an_interruption_ends_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    join = threading.Thread.join
    interrupted = [False]

    def once(self: threading.Thread, timeout: float | None = None) -> None:
        if not interrupted[0]:
            interrupted[0] = True
            raise KeyboardInterrupt
        join(self, timeout)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "join", once)
    with pytest.raises(KeyboardInterrupt):
        in_turn({name: _noting(notes, name, 1_000_000) for name in "ab"})
    assert threading.active_count() == before
    assert "a ends" not in notes
