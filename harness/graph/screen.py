"""Where progress is shown: nowhere, as lines, or as bars in a terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LINES_EVERY = 20.0
"""Seconds between two lines of the same bar."""


class Bar:
    """The progress of one thing; this one is not shown."""

    def update(self, done: float, total: float, state: str, left: str) -> None:
        """Show how far it is.

        Args:
            done: how much of `total` is done.
            total: all there is.
            state: the same for people, such as "steps 20/100".
            left: an estimate of the rest for people, or an empty text.
        """

    def remove(self) -> None:
        """End it."""


class Screen:
    """Shows nothing. Base of the two that do."""

    def note(self, text: str) -> None:
        """Show one line."""

    def bar(self, name: str, *, of_bars: bool = False) -> Bar:
        """Begin the progress of one thing.

        Args:
            name: what it is.
            of_bars: it counts other bars, each of which tells when it ends.
        """
        return Bar()

    def close(self) -> None:
        """Take the bars away."""


class Lines(Screen):
    """A line per note, and one now and then from each bar."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)

    def bar(self, name: str, *, of_bars: bool = False) -> Bar:
        """Begin to print; a bar of bars would only repeat their ends."""
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
        """Take the bars away."""
        self._bars.stop()


def make_screen(quiet: bool = False) -> Screen:
    """Return what fits: nothing, bars in a terminal, lines elsewhere."""
    if quiet:
        return Screen()
    return Bars() if sys.stderr.isatty() else Lines()


def duration(seconds: float) -> str:
    """Return a duration for people, "8 s", "3 min 20 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
