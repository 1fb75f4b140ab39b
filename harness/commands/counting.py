"""Progress of many small things of one kind: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TextIO

from harness.graph.progress import duration

_PLAIN_EVERY = 20.0


class Count:
    """Counts things by their outcome and estimates the rest; shows nothing."""

    def __init__(self, total: int, done: Counter[str]) -> None:
        """Begin to count.

        Args:
            total: how many there will be.
            done: those of an earlier run, by outcome.
        """
        self.total = total
        self.outcomes = done.copy()
        self.earlier = done.total()
        self._begin = time.monotonic()

    def add(self, outcome: str) -> None:
        """Count one more thing."""
        self.outcomes[outcome] += 1

    def replace(self, before: str, after: str) -> None:
        """Give a thing that was counted another outcome."""
        self.outcomes[before] -= 1
        self.outcomes[after] += 1

    def note(self, text: str) -> None:
        """Show one line."""

    def close(self) -> None:
        """End the display."""

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


class PlainCount(Count):
    """One line now and then."""

    def __init__(self, total: int, done: Counter[str], stream: TextIO | None = None) -> None:
        super().__init__(total, done)
        self._stream = stream or sys.stderr
        self._last = time.monotonic()

    def add(self, outcome: str) -> None:
        """Count one more thing, and print a line if the last one is old."""
        super().add(outcome)
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY:
            self._last = now
            self.note(f"{self.state()}, {self.per_second():.0f}/s, {self.left()}")

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)


class RichCount(Count):
    """A bar with pace and estimate."""

    def __init__(self, total: int, done: Counter[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(total, done)
        self._bar = Progress(
            TextColumn("programs"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, completed=self.done, state="", left="")
        self._bar.start()

    def add(self, outcome: str) -> None:
        """Count one more thing and move the bar."""
        super().add(outcome)
        self._bar.update(
            self._task,
            completed=self.done,
            state=f"{self.state()}  {self.per_second():.0f}/s",
            left=self.left(),
        )

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def make_count(total: int, done: Counter[str], quiet: bool = False) -> Count:
    """Return the display that fits: none, a bar in a terminal, lines elsewhere."""
    if quiet:
        return Count(total, done)
    return RichCount(total, done) if sys.stderr.isatty() else PlainCount(total, done)
