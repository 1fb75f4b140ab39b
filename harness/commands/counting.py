"""Progress of many programs: how many ended in which way, at what pace, and what is left."""

from __future__ import annotations

import time
from collections import Counter

from harness.graph.screen import Screen, duration, make_screen


class Count:
    """Counts programs by their outcome, estimates the rest and shows both.

    Args:
        total: how many there will be.
        done: those of an earlier run, by outcome.
        screen: where; by default nowhere.
    """

    def __init__(self, total: int, done: Counter[str], screen: Screen | None = None) -> None:
        self._screen = screen or Screen()
        self._bar = self._screen.bar("programs")
        self.total = total
        self.outcomes = done.copy()
        self.earlier = done.total()
        self._begin = time.monotonic()

    def add(self, outcome: str) -> None:
        """Count one more program."""
        self.outcomes[outcome] += 1
        state = f"{self.state()}, {self.per_second():.0f}/s"
        self._bar.update(self.done, self.total, state, self.left())

    def replace(self, before: str, after: str) -> None:
        """Give a program that was counted another outcome."""
        self.outcomes[before] -= 1
        self.outcomes[after] += 1

    def note(self, text: str) -> None:
        """Show one line."""
        self._screen.note(text)

    def close(self) -> None:
        """End the display."""
        self._screen.close()

    @property
    def done(self) -> int:
        """How many there are."""
        return self.outcomes.total()

    def seconds(self) -> float:
        """Return how long this run has counted."""
        return time.monotonic() - self._begin

    def per_second(self) -> float:
        """Return the pace of this run."""
        return (self.done - self.earlier) / max(self.seconds(), 1e-9)

    def left(self) -> str:
        """Return the estimate of the rest for people, or an empty text before there is one."""
        pace = self.per_second()
        rest = self.total - self.done
        return f"about {duration(rest / pace)} left" if pace and rest else ""

    def state(self) -> str:
        """Return "12/40 passed 7 failed 5", outcomes that do not occur left out."""
        parts = [f"{name} {number}" for name, number in self.outcomes.most_common() if number]
        return " ".join([f"{self.done}/{self.total}", *parts])


def make_count(total: int, done: Counter[str], quiet: bool = False) -> Count:
    """Return a count that is shown where it fits: nowhere, as a bar in a terminal, or as lines."""
    return Count(total, done, make_screen(quiet))
