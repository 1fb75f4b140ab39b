"""The progress of a run: the stages that are running, and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from harness.graph.screen import Bar, Screen, duration, make_screen
from harness.graph.stages import Stage


class Display:
    """Counts stages, estimates the time left, and shows both.

    Args:
        screen: where to show the progress; by default nowhere.
    """

    def __init__(self, screen: Screen | None = None) -> None:
        self._screen = screen or Screen()
        self._remaining: dict[str, Stage] = {}
        self._running: dict[str, tuple[Stage, float]] = {}
        self._expected: dict[str, float] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        """Function → seconds that its stages took, and those that were expected of them."""
        self._left: dict[str, tuple[float, float]] = {}
        """Address → seconds left by its own reports, and when the last one came."""
        self._first: dict[str, tuple[float, float]] = {}
        self._bars: dict[str, Bar] = {}
        self._overall = Bar()
        self._workers = 1
        self.total = 0
        self.made = 0

    def plan(self, order: Sequence[Stage], missing: Sequence[Stage], workers: int) -> None:
        """Set the stages to run.

        Args:
            order: all stages of the graph.
            missing: the stages that are not in the store.
            workers: number of stages that run at once.
        """
        self.total = len(missing)
        self._workers = max(1, min(workers, len(missing)))
        self._remaining = {stage.address: stage for stage in missing}
        if missing:
            found = len(order) - len(missing)
            self.note(f"{len(order)} stages, {found} in the store, {len(missing)} to run")
            self._overall = self._screen.bar("all", of_bars=True)
            self.tick()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Set what stages are expected to take, by address; others take their hint."""
        self._expected.update(seconds)

    def resize(self, workers: int) -> None:
        """Set the number of stages that run at once, where it changes while they run."""
        self._workers = max(1, min(workers, len(self._remaining)))

    def started(self, stage: Stage) -> None:
        """Report that a stage has started."""
        self._running[stage.address] = (stage, time.monotonic())
        self._bars[stage.address] = self._screen.bar(stage.name)

    def progress(self, address: str, done: float, total: float, what: str) -> None:
        """Report the progress of a running stage."""
        left = self.stage_left(address, done, total)
        if left is not None:
            self._left[address] = (left, time.monotonic())
        text = f"about {duration(left)} left" if left is not None else ""
        self._bars[address].update(done, total, f"{what} {done:g}/{total:g}", text)

    def finished(self, address: str, seconds: float, made: bool) -> None:
        """Report that a stage has ended; ``made`` is False if another run made it."""
        stage = self._remaining.pop(address)
        self._running.pop(address, None)
        self._left.pop(address, None)
        if address in self._bars:
            self._bars.pop(address).remove()
        self.made += 1
        if made:
            taken, expected = self._seen.get(stage.function, (0.0, 0.0))
            self._seen[stage.function] = (taken + seconds, expected + self._expectation(stage))
        how = f"done in {duration(seconds)}" if made else "made by another run"
        left = f", about {duration(self.seconds_left())} left" if self._remaining else ""
        self.note(f"[{self.made}/{self.total}] {stage.name}: {how}{left}")
        self.tick()

    def stage_left(self, address: str, done: float, total: float) -> float | None:
        """Estimate the time left of a running stage from its speed since its first report.

        The time before that is spent on imports and reading, which do not repeat.

        Args:
            address: the stage's address.
            done: the part of `total` that is done.
            total: the whole.

        Returns:
            Seconds, or None at the first report.
        """
        now = time.monotonic()
        before, since = self._first.setdefault(address, (done, now))
        return (now - since) * (total - done) / (done - before) if done > before else None

    def stopped(self, address: str) -> None:
        """Report that a stage has stopped before its end, and will be run again."""
        self._running.pop(address, None)
        self._first.pop(address, None)
        self._left.pop(address, None)
        if address in self._bars:
            self._bars.pop(address).remove()

    def note(self, text: str) -> None:
        """Show one line."""
        self._screen.note(text)

    def tick(self) -> None:
        """Refresh the estimate; called at least once per second."""
        left = f"about {duration(self.seconds_left())} left"
        self._overall.update(self.made, self.total, f"{self.made}/{self.total} stages", left)

    def close(self) -> None:
        """End the display."""
        self._screen.close()

    def seconds_left(self) -> float:
        """Estimate the time left.

        A running stage takes what it reports itself; any other what is expected of it, times what
        stages with the same function have taken of what was expected of them.
        """
        now = time.monotonic()
        total = 0.0
        for address, stage in self._remaining.items():
            if address in self._left:
                left, reported = self._left[address]
                seconds = max(0.0, left - (now - reported))
            else:
                taken, expected = self._seen.get(stage.function, (1.0, 1.0))
                seconds = self._expectation(stage) * taken / expected
                if address in self._running:
                    seconds = max(0.0, seconds - (now - self._running[address][1]))
            total += seconds * min(stage.threads, self._workers)
        return total / self._workers

    def _expectation(self, stage: Stage) -> float:
        # Something above 0, for it is divided by.
        return max(1e-3, self._expected.get(stage.address, stage.seconds_hint))


class WholeDisplay(Display):
    """One display over several plans, which are known before the first stage runs."""

    def plan_whole(self, order: Sequence[Stage], missing: Sequence[Stage], workers: int) -> None:
        """Set all stages to run; arguments as for `plan`."""
        super().plan(order, missing, workers)

    def plan(self, order: Sequence[Stage], missing: Sequence[Stage], workers: int) -> None:
        """Begin with a part of them, again if one of its stages has failed."""
        for bar in self._bars.values():
            bar.remove()
        self._bars.clear()
        self._running.clear()
        for stage in missing:
            if stage.address not in self._remaining:
                self._remaining[stage.address] = stage
                self.total += 1

    def drop(self, addresses: Sequence[str]) -> None:
        """Forget stages that will not be run."""
        for address in addresses:
            if self._remaining.pop(address, None) is not None:
                self.total -= 1


def make_display(quiet: bool = False) -> Display:
    """Return a display with bars in a terminal and lines elsewhere; nothing is shown if `quiet`."""
    return Display(make_screen(quiet))


def make_whole_display(quiet: bool = False) -> WholeDisplay:
    """Return a display of several plans; see `make_display`."""
    return WholeDisplay(make_screen(quiet))
