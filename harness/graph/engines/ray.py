"""The engine for a cluster: stages run as Ray tasks with a shared store folder."""

from __future__ import annotations

import os
import pickle
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.graph.engines import Share
from harness.graph.engines.cluster import (
    Amount,
    Node,
    autoscaled,
    connect,
    counted,
    living_nodes,
    places,
    widest,
)
from harness.graph.engines.remote import Board, appears, entry
from harness.graph.engines.worker import (
    Job,
    StageError,
    StageUserError,
    of_stage,
    raise_failure,
    worker_environment,
)
from harness.graph.progress import Display
from harness.graph.screen import duration
from harness.graph.stages import Stage
from harness.graph.store import RECORD, Store

_HANDED_ON = ("HF_", "TRANSFORMERS_", "SPARSEPO_")
"""Environment variables that stages read, by their beginning; those of other nodes may differ."""

_SECRET = ("TOKEN", "KEY")
"""How the name of one ends that is not handed on: a cluster shows the environment of its tasks."""

_POLL = 0.5
_LOOK_EVERY = 2.0
"""Seconds between two looks at the cluster's nodes."""

_FIRST_NOTE, _NOTE_EVERY = 10.0, 60.0
"""Seconds without a running stage until this is said, and until it is said again."""

_ATTEMPTS = 4
"""How often a stage is begun: once, and again if its node has died."""

_FORGET_NODE = 60.0
"""Seconds after which a stage is begun again though its dead node is still listed as alive."""

_PATIENCE = 20
"""How often a node looks for the store, every half second."""


class RayEngine:
    """Runs each stage as a Ray task; the store must be on a disk that all nodes share.

    Args:
        workers: number of stages that run at once; None leaves it to the cluster.
        share: what each stage reserves.
    """

    name = "ray"

    def __init__(self, workers: int | None = None, share: Share | None = None) -> None:
        self.workers = workers
        self.share = share or Share()

    def run(
        self, stages: Sequence[Stage], finished: set[str], store: Store, display: Display
    ) -> None:
        """Run the stages, each after its inputs; arguments and errors as for LocalEngine.run."""
        if not stages:
            return
        ray = connect()
        try:
            with _marker(store) as marker, _board(ray) as board:
                _Run(ray, self, store, display, marker, board).make(list(stages), set(finished))
        except ray.exceptions.RayError as error:
            raise StageError(
                f"The connection to the Ray cluster was lost ({type(error).__name__}); run the "
                "same command again to resume."
            ) from None


def uses_gpu(stage: Stage) -> bool:
    """Return whether a stage computes on a GPU: its configuration says so."""
    return any(_says_cuda(part) for part in (stage.config, stage.options))


def _says_cuda(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("device") == "cuda" or any(_says_cuda(inner) for inner in value.values())


@dataclass
class _Task:
    """A stage that has been handed to Ray."""

    stage: Stage
    amount: Amount
    number: int
    """Counts the attempts."""
    since: float
    node: str | None = None
    """Id of the node that has begun it; None while it waits for one."""


@dataclass
class _Again:
    """A stage whose node has died."""

    number: int
    node: str | None
    since: float


class _Run:
    """One run of some stages on a cluster."""

    def __init__(
        self, ray: Any, engine: RayEngine, store: Store, display: Display, marker: Path, board: Any
    ) -> None:
        self.ray, self.engine, self.store, self.display = ray, engine, store, display
        self.board = board
        self.place = {
            "store": str(store.root),
            "marker": str(marker),
            "patience": _PATIENCE,
            "folder": str(Path.cwd()),
        }
        self.remote = ray.remote(max_retries=0)(entry())
        self.tasks: dict[Any, _Task] = {}
        self.again: dict[str, _Again] = {}
        self.nodes: list[Node] = living_nodes(ray)
        self.names = {node.id: node.name for node in self.nodes}
        self.looked = self.busy = time.monotonic()
        self.said = 0.0
        self.narrowed = False

    def make(self, waiting: list[Stage], done: set[str]) -> None:
        """Run the stages, each after its inputs."""
        self.display.note(self._described())
        self._resize(waiting)
        try:
            while waiting or self.tasks:
                self._submit(waiting, done)
                self._wait(waiting, done)
                self._look(waiting)
                self.display.tick()
        finally:
            for task in self.tasks:
                # The cluster may be what has failed.
                with suppress(self.ray.exceptions.RayError):
                    self.ray.cancel(task, force=True)

    def _submit(self, waiting: list[Stage], done: set[str]) -> None:
        limit = self.engine.workers
        for stage in list(waiting):
            if limit is not None and len(self.tasks) >= limit:
                return
            if any(needed.address not in done for needed in stage.inputs.values()):
                continue
            if not self._may_begin(stage):
                continue
            amount = self._amount(stage)
            self._require(stage, amount)
            number = self.again[stage.address].number if stage.address in self.again else 1
            environment = _environment()
            if not amount.gpus:
                environment["CUDA_VISIBLE_DEVICES"] = ""
            task = self.remote.options(
                name=stage.name,
                num_cpus=amount.cpus,
                num_gpus=amount.gpus,
                runtime_env={"env_vars": environment},
            ).remote(self.place, self.board, number, pickle.dumps(Job.of(stage)))
            waiting.remove(stage)
            self.tasks[task] = _Task(stage, amount, number, time.monotonic())

    def _may_begin(self, stage: Stage) -> bool:
        """Whether a dead node would not be given the stage again; Ray lists it for a while."""
        last = self.again.get(stage.address)
        if last is None or time.monotonic() - last.since > _FORGET_NODE:
            return True
        return last.node is not None and all(node.id != last.node for node in self.nodes)

    def _amount(self, stage: Stage) -> Amount:
        share = self.engine.share
        gpus = share.gpus if uses_gpu(stage) else 0.0
        if share.cpus is not None:
            return Amount(share.cpus, gpus)
        cores = max(1.0, min(float(stage.threads), widest(self.nodes).cpus))
        if cores < stage.threads and not self.narrowed:
            self.narrowed = True
            self.display.note(
                f"No node has {stage.threads} cores: stages with {stage.threads} threads run on "
                f"{cores:g}, with the same results."
            )
        return Amount(cores, gpus)

    def _require(self, stage: Stage, amount: Amount) -> None:
        """Refuse what no node can ever give, because Ray would wait for it without a word."""
        if any(amount.fits(node.has) for node in self.nodes) or self._autoscaled():
            return
        most = widest(self.nodes)
        if amount.cpus > most.cpus:
            what, option = f"a node has at most {most.cpus:g}", "--cpus-per-stage"
        elif amount.gpus > most.gpus:
            what, option = f"a node has at most {most.gpus:g} GPUs", "--gpus-per-stage"
        else:
            what, option = "no node has both", "--cpus-per-stage or --gpus-per-stage"
        raise of_stage(
            StageUserError(
                f"Stage {stage.name} asks for {amount}, but {what}, and no autoscaler adds nodes; "
                f"lower {option}, or add a node that has them."
            ),
            stage.address,
        )

    def _autoscaled(self) -> bool:
        """Whether nodes may still come; a cluster that has just started does not say so at once."""
        for _ in range(_PATIENCE):
            found = autoscaled()
            if found is not None:
                return found
            time.sleep(_POLL)
        return False

    def _wait(self, waiting: list[Stage], done: set[str]) -> None:
        if not self.tasks:
            time.sleep(_POLL)
            return
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=_POLL)
        self._read_board()
        for task in ready:
            self._receive(task, waiting, done)

    def _read_board(self) -> None:
        running = {task.stage.address: task for task in self.tasks.values()}
        for address, number, kind, *content in self.ray.get(self.board.take.remote()):
            task = running.get(address)
            # The message of a lost attempt, or of one whose result has overtaken it.
            if task is None or task.number != number:
                continue
            if kind == "started":
                (task.node,) = content
                self.display.started(task.stage)
            elif kind == "progress" and task.node is not None:
                self.display.progress(address, *content)
            elif kind == "waiting":
                self.display.note(f"Waiting for another run that is making {task.stage.name}.")

    def _receive(self, ref: Any, waiting: list[Stage], done: set[str]) -> None:
        task = self.tasks.pop(ref)
        stage, errors = task.stage, self.ray.exceptions
        try:
            kind, *content = self.ray.get(ref)
        except (errors.NodeDiedError, errors.LocalRayletDiedError):
            self._begin_again(task, waiting)
            return
        except errors.OutOfMemoryError:
            raise of_stage(
                StageError(
                    f"The node of stage {stage.name} ran out of memory, and Ray killed the stage; "
                    "set --cpus-per-stage higher so that fewer run at once (details in "
                    f"{self.store.log(stage.name, stage.address)})."
                ),
                stage.address,
            ) from None
        except errors.RayError as error:
            if task.node is not None and not self._lives(task.node):
                self._begin_again(task, waiting)
                return
            raise of_stage(
                StageError(
                    f"The process of stage {stage.name} died ({type(error).__name__}); run the "
                    "same command again to resume (details in "
                    f"{self.store.log(stage.name, stage.address)})."
                ),
                stage.address,
            ) from None
        if kind != "done":
            raise_failure(kind, content[0], stage.address)
        made, seconds = content
        if not appears(self.store.folder(stage.address) / RECORD):
            raise of_stage(
                StageError(
                    f"Stage {stage.name} is done, but its result does not appear in the store "
                    f"{self.store.root}; check the disk that the nodes share."
                ),
                stage.address,
            )
        done.add(stage.address)
        self.again.pop(stage.address, None)
        self.display.finished(stage.address, seconds, made)

    def _lives(self, node: str) -> bool:
        found = [one for one in living_nodes(self.ray) if one.id == node]
        return bool(found) and found[0].answers()

    def _begin_again(self, task: _Task, waiting: list[Stage]) -> None:
        stage = task.stage
        name = "a node" if task.node is None else f"node {self.names.get(task.node, task.node)}"
        if task.number >= _ATTEMPTS:
            raise of_stage(
                StageError(
                    f"Stage {stage.name} lost its node {task.number} times, at last {name}; run "
                    "the same command again to resume."
                ),
                stage.address,
            )
        self.display.stopped(stage.address)
        self.display.note(f"Stage {stage.name} lost {name}; it will be run elsewhere.")
        self.again[stage.address] = _Again(task.number + 1, task.node, time.monotonic())
        waiting.insert(0, stage)

    def _look(self, waiting: list[Stage]) -> None:
        """Say which nodes come and go, and what is waited for."""
        moment = time.monotonic()
        if any(task.node is not None for task in self.tasks.values()):
            self.busy = moment
        if moment - self.looked < _LOOK_EVERY:
            return
        self.looked = moment
        before, self.nodes = self.nodes, living_nodes(self.ray)
        known, alive = {node.id for node in before}, {node.id for node in self.nodes}
        self.names |= {node.id: node.name for node in self.nodes}
        for node in self.nodes:
            if node.id not in known:
                self.display.note(f"Node {node.name} has joined: {node.has}.")
        for node in before:
            if node.id not in alive:
                self.display.note(f"Node {node.name} has left.")
        if known != alive:
            self._resize(waiting)
            self._take_back(waiting)
        idle = moment - self.busy
        if idle >= _FIRST_NOTE and moment - self.said >= _NOTE_EVERY:
            self.said = moment
            self.display.note(self._waited_for(idle))

    def _take_back(self, waiting: list[Stage]) -> None:
        """Take back what only a node that has left could give, to ask for what there is now."""
        for ref, task in list(self.tasks.items()):
            if task.node is None and not any(task.amount.fits(n.has) for n in self.nodes):
                del self.tasks[ref]
                self.ray.cancel(ref)
                waiting.insert(0, task.stage)

    def _resize(self, waiting: list[Stage]) -> None:
        stages = [*waiting, *(task.stage for task in self.tasks.values())]
        usual = min((self._usual(stage) for stage in stages), key=lambda a: a.cpus, default=None)
        if usual is not None:
            slots = max(1, places(self.nodes, usual))
            self.display.resize(min(slots, self.engine.workers or slots))

    def _usual(self, stage: Stage) -> Amount:
        share = self.engine.share
        return Amount(share.cpus or 1.0, share.gpus if uses_gpu(stage) else 0.0)

    def _described(self) -> str:
        total = Amount(
            sum(node.has.cpus for node in self.nodes), sum(node.has.gpus for node in self.nodes)
        )
        return f"Ray cluster: {counted(len(self.nodes), 'node')} with {total}"

    def _waited_for(self, seconds: float) -> str:
        since = f"for {duration(seconds)}"
        if not self.tasks:
            return f"Waiting {since} for the cluster to notice that a node has died."
        amounts = sorted({str(task.amount) for task in self.tasks.values()})
        what = f"{counted(len(self.tasks), 'stage')} ({' or '.join(amounts)} each)"
        fits = any(task.amount.fits(n.has) for task in self.tasks.values() for n in self.nodes)
        if not fits:
            return f"Waiting {since} for the autoscaler to add a node: {what}; {self._described()}."
        return f"Waiting {since} for nodes that are busy or starting: {what}; {self._described()}."


@contextmanager
def _marker(store: Store) -> Iterator[Path]:
    """Make a file by which a node sees that it has this store, and not a folder of its name."""
    marker = store.root / "locks" / f".cluster-{uuid.uuid4().hex}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


@contextmanager
def _board(ray: Any) -> Iterator[Any]:
    """Start the actor that takes reports, on the driver's node, whose end is that of the run."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    own = ray.get_runtime_context().get_node_id()
    actor = (
        ray.remote(Board)
        .options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(own, soft=False),
            runtime_env={"env_vars": _environment()},
        )
        .remote()
    )
    try:
        yield actor
    finally:
        with suppress(ray.exceptions.RayError):
            ray.kill(actor)


def _environment() -> dict[str, str]:
    """Return the environment of a stage: this process's, as far as stages read it."""
    path = os.pathsep.join(str(Path(place or ".").absolute()) for place in sys.path)
    own = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_HANDED_ON) and not name.endswith(_SECRET)
    }
    return {**own, **worker_environment(), "PYTHONPATH": path}
