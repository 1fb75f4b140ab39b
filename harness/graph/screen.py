"""Ways to show progress: as bars in a terminal, as lines, or not at all."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LINES_EVERY = 20.0
"""Seconds between two lines of the same bar."""


class Bar:
    """The progress of one task; this base class shows nothing."""

    def update(self, done: float, total: float, state: str, left: str) -> None:
        """Show the current progress.

        Args:
            done: the part of `total` that is done.
            total: the whole.
            state: the same as text, such as "steps 20/100".
            left: the estimated time left as text, or an empty text.
        """

    def remove(self) -> None:
        """Remove the bar."""


class Screen:
    """Shows nothing; the base class of `Lines` and `Bars`."""

    def note(self, text: str) -> None:
        """Show one line."""

    def bar(self, name: str, *, of_bars: bool = False) -> Bar:
        """Start showing the progress of one task.

        Args:
            name: the task's name.
            of_bars: the bar counts other bars, each of which reports its own end.
        """
        return Bar()

    def close(self) -> None:
        """Remove the bars."""


class Lines(Screen):
    """Prints a line for each note, and one from each bar at intervals."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)

    def bar(self, name: str, *, of_bars: bool = False) -> Bar:
        """Start printing; a bar of bars is not shown, because it would only repeat their ends."""
        return Bar() if of_bars else _LineBar(self, name)


class _LineBar(Bar):
    def __init__(self, lines: Lines, name: str) -> None:
        self._lines = lines
        self._name = name
        self._last = time.monotonic()

    def update(self, done: float, total: float, state: str, left: str) -> None:
        now = time.monotonic()
        if left and now - self._last >= LINES_EVERY:
            self._last = now
            self._lines.note(f"{self._name}: {state}, {left}")


class Bars(Screen):
    """Bars in a terminal, and notes above them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            transient=True,
        )

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def bar(self, name: str, *, of_bars: bool = False) -> Bar:
        """Open a bar."""
        self._bars.start()
        task = self._bars.add_task(name, total=None, state="", left="")
        bars = self._bars

        class RichBar(Bar):
            def update(self, done: float, total: float, state: str, left: str) -> None:
                bars.update(task, completed=done, total=total, state=state, left=left)

            def remove(self) -> None:
                bars.remove_task(task)

        return RichBar()

    def close(self) -> None:
        """Remove the bars."""
        self._bars.stop()


def make_screen(quiet: bool = False) -> Screen:
    """Return bars in a terminal and lines elsewhere; nothing is shown if `quiet`."""
    if quiet:
        return Screen()
    return Bars() if sys.stderr.isatty() else Lines()


def duration(seconds: float) -> str:
    """Return a duration as text, such as "8 s", "3 min 20 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
