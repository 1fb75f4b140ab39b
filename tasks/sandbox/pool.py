"""A pool of boxes: programs in, confirmed verdicts out, in order."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import deque
from collections.abc import Iterable, Iterator

from sparsepo.errors import UserError

from .program import Limits, Program, Verdict
from .tiers import choose_tier
from .worker import Answer, BoxError, Task, Worker

_DEPTH = 3  # tasks queued per box, so it never waits for the next one
_WINDOW = 4096  # maximum number of verdicts held back to keep the order
_GRACE_SECONDS = 10.0
_MOST_DEATHS = 2
_MOST_FAILED_STARTS = 3


def run_programs(
    programs: Iterable[Program],
    *,
    workers: int | None = None,
    tier: str | None = None,
    limits: Limits | None = None,
    confirm: bool = True,
) -> Iterator[Verdict]:
    """Run programs in isolation and yield one verdict for each, in order.

    Args:
        programs: consumed as needed; the iterable may be endless.
        workers: number of boxes that run at once; by default one per available processor.
        tier: name of the isolation; None for the strongest that works.
        limits: the limits of each program.
        confirm: count a pass only if the strict form has confirmed it. Otherwise candidate and
            tests share a process, in which a malicious candidate can forge a pass.

    Yields:
        The verdicts; closing the iterator ends every box.

    Raises:
        UserError: the requested isolation, or any isolation, does not work here.
    """
    chosen = choose_tier(tier)
    count = workers if workers is not None else len(os.sched_getaffinity(0))
    if count < 1:
        raise UserError("At least one worker is needed to run programs.")
    pool = Pool(chosen, count, limits or Limits(), confirm=confirm)
    return pool.run(programs)


class Pool:
    """The boxes of one run.

    Args:
        tier: an isolation that works here.
        workers: number of boxes.
        limits: the limits of each program.
        confirm: whether passes are confirmed in the strict form.
    """

    def __init__(self, tier: str, workers: int, limits: Limits, *, confirm: bool = True) -> None:
        self.tier = tier
        self.limits = limits
        self.confirm = confirm
        self.workers = [Worker(tier, limits) for _ in range(workers)]
        self._selector = selectors.DefaultSelector()
        self._again: deque[Task] = deque()
        self._done: dict[int, Verdict] = {}
        self._failed_starts = 0

    def run(self, programs: Iterable[Program]) -> Iterator[Verdict]:
        """Yield the programs' verdicts in order; the boxes end with the iterator.

        Raises:
            UserError: boxes can no longer be started.
        """
        source = enumerate(programs)
        taken = given = 0
        more = True
        try:
            with contextlib.suppress(BoxError):
                for worker in self.workers:
                    worker.launch()
            for worker in self.workers:
                self._start(worker)
            while True:
                while more and self._room() and taken - given < _WINDOW:
                    try:
                        place, program = next(source)
                    except StopIteration:
                        more = False
                        break
                    taken += 1
                    self._accept(place, program)
                self._hand_out()
                while given in self._done:
                    yield self._done.pop(given)
                    given += 1
                if not more and given == taken:
                    return
                if given not in self._done:
                    self._wait()
        finally:
            self.close()

    def close(self) -> None:
        """End every box."""
        for worker in self.workers:
            self._stop(worker)
        self._selector.close()

    def _room(self) -> bool:
        waiting = sum(len(worker.tasks) for worker in self.workers) + len(self._again)
        return waiting < _DEPTH * len(self.workers)

    def _accept(self, place: int, program: Program) -> None:
        size = len(program.prompt) + len(program.completion) + len(program.tests)
        if size > self.limits.text_bytes:
            detail = f"{size} characters of text, more than the limit of {self.limits.text_bytes}"
            self._done[place] = Verdict(program.id, "refused", detail, self.tier)
            return
        seconds = self.limits.seconds if program.seconds is None else program.seconds
        self._again.append(Task(program, place, seconds))

    def _hand_out(self) -> None:
        while self._again:
            worker = min(self.workers, key=lambda one: len(one.tasks))
            if len(worker.tasks) >= _DEPTH:
                return
            if not worker.tasks:
                worker.since = time.monotonic()
            worker.give(self._again.popleft())
            self._watch(worker)

    def _watch(self, worker: Worker) -> None:
        wanted = selectors.EVENT_READ
        if worker.wants_to_send:
            wanted |= selectors.EVENT_WRITE
        if worker.socket is not None:
            key = self._selector.get_key(worker.socket)
            if key.events != wanted:
                self._selector.modify(worker.socket, wanted, worker)

    def _wait(self) -> None:
        """Wait for an event of any box, and handle it."""
        now = time.monotonic()
        ends = [self._end(worker) for worker in self.workers if worker.tasks]
        for key, event in self._selector.select(max(min(ends, default=now + 1) - now, 0.0)):
            worker: Worker = key.data
            if event & selectors.EVENT_WRITE:
                worker.send()
                self._watch(worker)
            if event & selectors.EVENT_READ:
                self._read(worker)
        now = time.monotonic()
        for worker in self.workers:
            if worker.tasks and now >= self._end(worker):
                self._overdue(worker)

    def _end(self, worker: Worker) -> float:
        """Return when a box must have answered, which is well after its own deadline."""
        return worker.since + worker.tasks[0].seconds + _GRACE_SECONDS

    def _read(self, worker: Worker) -> None:
        try:
            answers = worker.answers()
        except BoxError:
            self._lost(worker)
            return
        if answers:
            worker.since = time.monotonic()
        for answer in answers:
            self._judge(answer)

    def _judge(self, answer: Answer) -> None:
        task = answer.task
        confirmed = task.form == "strict"
        if answer.outcome == "passed" and self.confirm and not confirmed:
            # Twice the time, because the same program takes longer in two processes.
            self._again.appendleft(
                Task(task.program, task.place, 2 * task.seconds, "strict", task.deaths)
            )
            return
        self._done[task.place] = Verdict(
            id=task.program.id,
            outcome=answer.outcome,  # type: ignore[arg-type]
            detail=answer.detail,
            tier=self.tier,
            form=task.form,
            seconds=answer.seconds,
            cpu_seconds=answer.cpu_seconds,
            peak_bytes=answer.peak_bytes,
            suspected_forgery=confirmed and answer.outcome in ("failed", "memory", "timeout"),
        )

    def _overdue(self, worker: Worker) -> None:
        task = worker.tasks.popleft()
        detail = "the box itself had to be ended"
        self._done[task.place] = Verdict(
            task.program.id, "timeout", detail, self.tier, task.form, task.seconds + _GRACE_SECONDS
        )
        self._restart(worker)

    def _lost(self, worker: Worker) -> None:
        """Handle a box that ended by itself; its programs are retried a limited number of times."""
        if worker.tasks and not worker.ends_by_itself:
            task = worker.tasks[0]
            task.deaths += 1
            if task.deaths >= _MOST_DEATHS:
                worker.tasks.popleft()
                detail = f"the box ended {task.deaths} times while it ran"
                self._done[task.place] = Verdict(
                    task.program.id, "refused", detail, self.tier, task.form
                )
        self._restart(worker)

    def _restart(self, worker: Worker) -> None:
        left = list(worker.tasks)
        worker.tasks.clear()
        self._again.extendleft(reversed(left))
        self._stop(worker)
        self._start(worker)

    def _start(self, worker: Worker) -> None:
        while True:
            try:
                if worker.socket is None:
                    worker.launch()
                worker.wait_until_ready()
            except BoxError as error:
                self._failed_starts += 1
                if self._failed_starts >= _MOST_FAILED_STARTS:
                    raise UserError(
                        f"A box for model-generated programs cannot be started any more ({error}); "
                        "free memory or processes and run again."
                    ) from None
            else:
                break
        self._failed_starts = 0
        assert worker.socket is not None
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)

    def _stop(self, worker: Worker) -> None:
        if worker.socket is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.socket)
        worker.stop()
