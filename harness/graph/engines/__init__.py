"""Engines, which run stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.graph.engines.worker import StageError, StageUserError
from harness.graph.progress import Display
from harness.graph.remade import remade_note
from harness.graph.stages import Stage, topological
from harness.graph.store import Store
from sparsepo.errors import UserError, did_you_mean

__all__ = [
    "ENGINES",
    "Engine",
    "Plan",
    "Share",
    "StageError",
    "StageUserError",
    "get_engine",
    "make_all",
    "make_plan",
    "make_planned",
]


class Engine(Protocol):
    """Runs stages after their inputs; results never depend on the engine."""

    name: str

    def run(
        self, stages: Sequence[Stage], finished: set[str], store: Store, display: Display
    ) -> None:
        """Run ``stages``, whose inputs are all among them or in ``finished``."""


@dataclass(frozen=True)
class Share:
    """What each stage reserves on a cluster."""

    cpus: float | None = None
    """Cores; None for as many as the stage has threads, or as any node has if that is less."""
    gpus: float = 0.0
    """GPUs, for stages that use one; less than 1 if several stages share a GPU."""


def _local(workers: int | None, gpus: int, share: Share) -> Engine:
    from harness.graph.engines.local import LocalEngine

    return LocalEngine(workers, gpus)


def _ray(workers: int | None, gpus: int, share: Share) -> Engine:
    from harness.graph.engines.ray import RayEngine

    return RayEngine(workers, share)


ENGINES: dict[str, Callable[[int | None, int, Share], Engine]] = {"local": _local, "ray": _ray}


def get_engine(
    name: str, workers: int | None = None, gpus: int = 0, share: Share | None = None
) -> Engine:
    """Return an engine by name.

    Args:
        name: "local" or "ray".
        workers: number of stages that run at once; None for the engine's default.
        gpus: number of this machine's GPUs for the local engine; each stage uses one.
        share: what each stage reserves on a cluster.

    Raises:
        UserError: the name is unknown.
    """
    if name not in ENGINES:
        raise UserError(
            f"Unknown engine '{name}'.{did_you_mean(name, ENGINES)} Engines: {', '.join(ENGINES)}."
        )
    return ENGINES[name](workers, gpus, share or Share())


@dataclass(frozen=True)
class Plan:
    """What the store has of some targets, and what must be made."""

    order: list[Stage]
    """All stages, inputs first."""
    finished: set[str]
    """Addresses in the store."""
    missing: list[Stage]
    """Stages to run, inputs first."""


def make_plan(targets: Sequence[Stage], store: Store, display: Display) -> Plan:
    """Find out which stages must be run.

    Every artefact of the graph in the store is checked against its hashes; a corrupted one is
    reported and made again. A removed input is only made again if a missing stage needs it.

    Args:
        targets: stages whose artefacts are needed.
        store: the artefacts.
        display: shows what is corrupted.

    Raises:
        UserError: see Store.find.
    """
    order = topological(targets)
    finished: set[str] = set()
    needed = {target.address for target in targets}
    for stage in order:

        def report(problem: str, stage: Stage = stage) -> None:
            needed.add(stage.address)
            display.note(f"Corrupted artefact of stage {stage.name} ({problem}); making it again.")

        if store.find(stage.address, report) is not None:
            finished.add(stage.address)
    missing = []
    for stage in reversed(order):
        if stage.address in needed and stage.address not in finished:
            missing.append(stage)
            needed.update(inner.address for inner in stage.inputs.values())
    missing.reverse()
    return Plan(order, finished, missing)


def make_planned(plan: Plan, store: Store, engine: Engine, display: Display) -> None:
    """Run the missing stages of a plan.

    Raises:
        UserError: see Engine.run.
        StageError: see Engine.run.
    """
    display.plan(plan.order, plan.missing, getattr(engine, "workers", None) or 1)
    engine.run(plan.missing, plan.finished, store, display)


def make_all(
    targets: Sequence[Stage],
    store: Store,
    engine: Engine,
    display: Display,
    expect: Callable[[Sequence[Stage]], Mapping[str, float]] | None = None,
) -> dict[str, Path]:
    """Run all stages that the targets need and the store does not have; see `make_plan`.

    Args:
        targets: stages whose artefacts are needed.
        store: the artefacts.
        engine: runs the missing stages.
        display: shows the progress.
        expect: returns what the stages to run will take, for `Display.expect`.

    Returns:
        Address → folder, of the targets.

    Raises:
        UserError: see Engine.run and Store.find.
        StageError: see Engine.run.
    """
    plan = make_plan(targets, store, display)
    if note := remade_note(plan.missing, store):
        display.note(note)
    if expect is not None:
        display.expect(expect(plan.missing))
    make_planned(plan, store, engine, display)
    return {target.address: store.folder(target.address) for target in targets}
