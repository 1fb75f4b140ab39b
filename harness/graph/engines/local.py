"""The engine for one machine: persistent worker processes that run one stage at a time each."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.graph.engines.worker import (
    Job,
    StageError,
    attempt,
    of_stage,
    raise_failure,
    worker_environment,
)
from harness.graph.progress import Display
from harness.graph.stages import Stage
from harness.graph.store import Store

_PROGRESS_EVERY = 0.1


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    lifeline: Connection
    """The process ends itself when this end is closed, as it is when this process dies."""
    job: Job | None = None
    slots: int = 0


class LocalEngine:
    """Runs stages in processes that live until the run ends.

    On Linux they are forked from one process that has loaded the libraries; where each sees a GPU
    of its own, and on other systems, every process loads them itself.

    Args:
        workers: number of processes, by default one per GPU or core; a stage with several threads
            takes the place of as many processes.
        gpus: number of GPUs; each process sees one of them.
    """

    name = "local"

    def __init__(self, workers: int | None = None, gpus: int = 0) -> None:
        self.workers = workers or gpus or default_workers()
        listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._gpus = (listed.split(",") if listed else [str(i) for i in range(gpus)])[:gpus]

    def run(
        self, stages: Sequence[Stage], finished: set[str], store: Store, display: Display
    ) -> None:
        """Run the stages, each after its inputs.

        Args:
            stages: the stages to run, inputs first.
            finished: addresses that are already in the store.
            store: the artefacts.
            display: shows the progress.

        Raises:
            UserError: the UserError of a stage.
            StageError: a stage failed for another reason, or its process died.
        """
        if not stages:
            return
        pool: list[_Worker] = []
        try:
            for index in range(min(self.workers, len(stages))):
                values = worker_environment()
                if self._gpus:
                    values["CUDA_VISIBLE_DEVICES"] = self._gpus[index % len(self._gpus)]
                with _environment(values):
                    pool.append(_start(store.root, fork=not self._gpus))
            self._schedule(list(stages), set(finished), pool, store, display)
        finally:
            _stop(pool)

    def _schedule(
        self,
        waiting: list[Stage],
        done: set[str],
        pool: list[_Worker],
        store: Store,
        display: Display,
    ) -> None:
        while waiting or any(worker.job for worker in pool):
            self._hand_out(waiting, done, pool, display)
            busy = [worker for worker in pool if worker.job]
            handles = [w.connection for w in busy] + [w.process.sentinel for w in busy]
            ready = wait(handles, timeout=1.0)
            display.tick()
            for worker in busy:
                # The messages that a dead process sent are read before the end of its pipe.
                if worker.connection in ready or worker.process.sentinel in ready:
                    self._receive(worker, done, store, display)

    def _hand_out(
        self, waiting: list[Stage], done: set[str], pool: list[_Worker], display: Display
    ) -> None:
        for stage in list(waiting):
            if any(needed.address not in done for needed in stage.inputs.values()):
                continue
            wanted = min(stage.threads, len(pool))
            free = len(pool) - sum(worker.slots for worker in pool)
            idle = next((worker for worker in pool if worker.job is None), None)
            if idle is None or wanted > free:
                # A stage that waits for several places would starve if others overtook it.
                return
            waiting.remove(stage)
            idle.job, idle.slots = Job.of(stage), wanted
            display.started(stage)
            # A process that has died in the meantime is detected by its sentinel.
            with suppress(OSError):
                idle.connection.send(idle.job)

    def _receive(self, worker: _Worker, done: set[str], store: Store, display: Display) -> None:
        job = worker.job
        assert job is not None
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            raise _death(worker, store) from None
        if kind == "progress":
            display.progress(job.address, *content)
        elif kind == "waiting":
            display.note(f"Waiting for another run that is making {job.name}.")
        elif kind == "done":
            made, seconds = content
            done.add(job.address)
            worker.job, worker.slots = None, 0
            display.finished(job.address, seconds, made)
        else:
            raise_failure(kind, content[0], job.address)


def default_workers() -> int:
    """Return the number of worker processes: one per available core, at most 8."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(8, cores))


def _death(worker: _Worker, store: Store) -> StageError:
    assert worker.job is not None
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"exited ({code})"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    log = store.log(worker.job.name, worker.job.address)
    error = StageError(
        f"The process of stage {worker.job.name} {how}{hint}; run the same command again to "
        f"resume (details in {log})."
    )
    return of_stage(error, worker.job.address)


def _start(root: Path, *, fork: bool) -> _Worker:
    # A process that has initialised CUDA must not be forked, and importing libraries may do that.
    if fork and sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["harness.graph.engines.preloaded"])
        # Its socket needs a place for temporary files with a short name, and its process is the
        # child of this one, which may itself be a fork of the one that started it.
        with suppress(OSError):
            return _start_in(context, root)
    return _start_in(multiprocessing.get_context("spawn"), root)


def _start_in(context: BaseContext, root: Path) -> _Worker:
    here, there = context.Pipe()
    end, lifeline = context.Pipe(duplex=False)
    process = context.Process(  # type: ignore[attr-defined]
        target=_serve,
        args=(there, end, str(root), dict(os.environ)),
        daemon=True,
        name="harness-worker",
    )
    process.start()
    there.close()
    end.close()
    return _Worker(process, here, lifeline)


def _stop(pool: Sequence[_Worker]) -> None:
    for worker in pool:
        worker.connection.close()
        if worker.job is not None:
            worker.process.terminate()
    for worker in pool:
        worker.process.join(timeout=3)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.lifeline.close()


def _serve(
    connection: Connection, lifeline: Connection, root: str, environment: dict[str, str]
) -> None:
    """Run jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The process that this one was forked from may be older than changes of the environment.
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    store = Store(Path(root))
    lock = threading.Lock()

    def send(*message: object) -> None:
        with lock:
            connection.send(message)

    while True:
        try:
            job: Job = connection.recv()
        except (EOFError, OSError):
            # A forked process ends without them, and libraries remove temporary folders in them.
            atexit._run_exitfuncs()
            return
        last = [0.0]

        def progress(done: float, total: float, what: str, last: list[float] = last) -> None:
            now = time.monotonic()
            if now - last[0] >= _PROGRESS_EVERY or done >= total:
                last[0] = now
                send("progress", done, total, what)

        send(*attempt(store, job, progress, lambda: send("waiting")))


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of the pipe is closed, for any reason."""
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the block, in which processes are started."""
    # Numerical libraries read them when they are loaded, before the worker could set them.
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
