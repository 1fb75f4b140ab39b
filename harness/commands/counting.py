"""Progress of many programs: counts by outcome, speed, and the time left."""

from __future__ import annotations

import time
from collections import Counter

from harness.graph.screen import Screen, duration, make_screen


class Count:
    """Counts programs by outcome, estimates the time left, and shows both.

    Args:
        total: number of programs.
        done: programs of an earlier run, by outcome.
        screen: where to show the progress; by default nowhere.
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
        """Change the outcome of a program that was already counted."""
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
        """Number of programs counted so far."""
        return self.outcomes.total()

    def seconds(self) -> float:
        """Return the duration of this run so far, in seconds."""
        return time.monotonic() - self._begin

    def per_second(self) -> float:
        """Return the programs per second of this run."""
        return (self.done - self.earlier) / max(self.seconds(), 1e-9)

    def left(self) -> str:
        """Return the estimated time left as text, empty before there is an estimate."""
        pace = self.per_second()
        rest = self.total - self.done
        return f"about {duration(rest / pace)} left" if pace and rest else ""

    def state(self) -> str:
        """Return text such as "12/40 passed 7 failed 5", without outcomes that do not occur."""
        parts = [f"{name} {number}" for name, number in self.outcomes.most_common() if number]
        return " ".join([f"{self.done}/{self.total}", *parts])


def make_count(total: int, done: Counter[str], quiet: bool = False) -> Count:
    """Return a count that is shown as a bar in a terminal, as lines elsewhere, or not at all."""
    return Count(total, done, make_screen(quiet))
