"""What a run shows while it works: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from harness.graph.stages import Stage

if TYPE_CHECKING:
    from rich.progress import TaskID

_PLAIN_EVERY = 20.0


class Display:
    """Counts stages and estimates the rest; shows nothing. Base of the two that do."""

    def __init__(self) -> None:
        self._remaining: dict[str, Stage] = {}
        self._running: dict[str, tuple[Stage, float]] = {}
        self._seen: dict[str, list[float]] = {}
        self._first: dict[str, tuple[float, float]] = {}
        self._workers = 1
        self.total = 0
        self.made = 0

    def plan(self, order: Sequence[Stage], missing: Sequence[Stage], workers: int) -> None:
        """Be told what is to be done.

        Args:
            order: all stages of the graph.
            missing: those that have to be made.
            workers: how many run at once.
        """
        self.total = len(missing)
        self._workers = max(1, min(workers, len(missing)))
        self._remaining = {stage.address: stage for stage in missing}
        if missing:
            found = len(order) - len(missing)
            self.note(f"{len(order)} stages, {found} in the store, {len(missing)} to run")

    def started(self, stage: Stage) -> None:
        """Be told that a stage begins."""
        self._running[stage.address] = (stage, time.monotonic())

    def progress(self, address: str, done: float, total: float, what: str) -> None:
        """Be told how far a running stage is."""

    def finished(self, address: str, seconds: float, made: bool) -> None:
        """Be told that a stage has ended; ``made`` is False if another run made it."""
        stage = self._remaining.pop(address)
        self._running.pop(address, None)
        self.made += 1
        if made:
            self._seen.setdefault(stage.function, []).append(seconds)

    def stage_left(self, address: str, done: float, total: float) -> float | None:
        """Estimate the rest of a running stage from its pace since its first report.

        The time before that goes into imports and reading, which do not repeat.

        Args:
            address: the stage's.
            done: how much of `total` is done.
            total: all there is.

        Returns:
            Seconds, or None at the first report.
        """
        now = time.monotonic()
        before, since = self._first.setdefault(address, (done, now))
        return (now - since) * (total - done) / (done - before) if done > before else None

    def note(self, text: str) -> None:
        """Show one line."""

    def tick(self) -> None:
        """Be called at least once a second."""

    def close(self) -> None:
        """End the display."""

    def seconds_left(self) -> float:
        """Estimate the rest: mean duration of finished stages of the same function, per worker."""
        now = time.monotonic()
        total = 0.0
        for address, stage in self._remaining.items():
            seen = self._seen.get(stage.function)
            expected = sum(seen) / len(seen) if seen else stage.seconds_hint
            if address in self._running:
                expected = max(0.0, expected - (now - self._running[address][1]))
            total += expected * min(stage.threads, self._workers)
        return total / self._workers


class PlainDisplay(Display):
    """One line per event, and one now and then from a long stage."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._last: dict[str, float] = {}

    def progress(self, address: str, done: float, total: float, what: str) -> None:
        """Print a line if the last one of this stage is old."""
        left = self.stage_left(address, done, total)
        now = time.monotonic()
        stage, since = self._running[address]
        if now - self._last.get(address, since) >= _PLAIN_EVERY and left is not None:
            self._last[address] = now
            self.note(f"{stage.name}: {what} {done:g}/{total:g}, about {duration(left)} left")

    def finished(self, address: str, seconds: float, made: bool) -> None:
        """Print what ended and what is left."""
        name = self._remaining[address].name
        super().finished(address, seconds, made)
        how = f"done in {duration(seconds)}" if made else "made by another run"
        left = f", about {duration(self.seconds_left())} left" if self._remaining else ""
        self.note(f"[{self.made}/{self.total}] {name}: {how}{left}")

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)


class RichDisplay(Display):
    """A bar for the whole run and one for each running stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._overall: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}

    def plan(self, order: Sequence[Stage], missing: Sequence[Stage], workers: int) -> None:
        """Open the overall bar."""
        super().plan(order, missing, workers)
        if missing:
            self._bars.start()
            count = f"0/{len(missing)} stages"
            self._overall = self._bars.add_task(
                "all", total=len(missing), count=count, left=self._left()
            )

    def started(self, stage: Stage) -> None:
        """Open a bar."""
        super().started(stage)
        self._tasks[stage.address] = self._bars.add_task(stage.name, total=None, count="", left="")

    def progress(self, address: str, done: float, total: float, what: str) -> None:
        """Move a bar."""
        left = self.stage_left(address, done, total)
        self._bars.update(
            self._tasks[address],
            completed=done,
            total=total,
            count=f"{what} {done:g}/{total:g}",
            left=f"{duration(left)} left" if left is not None else "",
        )

    def finished(self, address: str, seconds: float, made: bool) -> None:
        """Close a bar and move the overall one."""
        name = self._remaining[address].name
        super().finished(address, seconds, made)
        self._bars.remove_task(self._tasks.pop(address))
        how = f"done in {duration(seconds)}" if made else "made by another run"
        self._bars.console.print(f"{name}: {how}", style="dim", markup=False, highlight=False)
        if self._overall is not None:
            self._bars.update(
                self._overall,
                completed=self.made,
                count=f"{self.made}/{self.total} stages",
                left=self._left(),
            )

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def tick(self) -> None:
        """Refresh the estimate."""
        if self._overall is not None:
            self._bars.update(self._overall, left=self._left())

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()

    def _left(self) -> str:
        return f"about {duration(self.seconds_left())} left"


def make_display(quiet: bool = False) -> Display:
    """Return the display that fits: none, bars in a terminal, lines elsewhere."""
    if quiet:
        return Display()
    return RichDisplay() if sys.stderr.isatty() else PlainDisplay()


def duration(seconds: float) -> str:
    """Return a duration for people, "8 s", "3 min 20 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
