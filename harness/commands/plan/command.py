"""``plan``: what experiments will take, computed from their stages without running one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.commands.plan.cost_model import CARDS, GPUS, Memory, Utilisation, gpu_seconds
from harness.commands.plan.fetched import Fetched, fetched
from harness.commands.plan.processor import own_seconds, processor_seconds
from harness.commands.plan.work import Work
from harness.commands.plan.workloads import Workloads
from harness.commands.run import Prepared
from harness.commands.run_all import describe_all
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.common.spec import Experiment
from harness.graph.stages import Stage, topological
from sparsepo.errors import UserError

LOADING = 30.0
"""Seconds to import the libraries and load a model onto a GPU, for each stage; assumed."""


@dataclass(frozen=True)
class PlanOptions:
    """The options of `plan` besides those of the run."""

    reached: Utilisation = field(default_factory=Utilisation)

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            UserError: one is not above 0 and at most 1.
        """
        for option, value in (
            ("--utilisation", self.reached.compute),
            ("--bandwidth-utilisation", self.reached.bandwidth),
        ):
            if not 0.0 < value <= 1.0:
                raise UserError(f"{option} must be above 0 and at most 1, not {value:g}.")


@dataclass
class KindOfStage:
    """The stages of one kind."""

    kind: str
    stages: int = 0
    in_store: int = 0
    unknown: int = 0
    """Stages to run whose FLOPs are not known."""
    flops: float = 0.0
    """Of the stages to run; decoding included."""
    processor_seconds: float = 0.0
    """On one core."""
    gpu_seconds: dict[str, float] = field(default_factory=lambda: {gpu.name: 0.0 for gpu in GPUS})

    @property
    def to_run(self) -> int:
        """Stages that are not in the store."""
        return self.stages - self.in_store

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, times in hours."""
        return {
            "kind": self.kind,
            "stages": self.stages,
            "in_store": self.in_store,
            "to_run": self.to_run,
            "unknown": self.unknown,
            "flops": self.flops,
            "gpu_hours": {name: seconds / 3600 for name, seconds in self.gpu_seconds.items()},
            "core_hours": self.processor_seconds / 3600,
        }


@dataclass(frozen=True)
class Training:
    """Training runs that need the same memory."""

    example: str
    """The name of one."""
    runs: int
    memory: Memory


@dataclass(frozen=True)
class Plan:
    """What experiments will take."""

    profile: str
    device: str
    workers: int
    experiments: list[tuple[str, int, int]]
    """Id, stages, and how many of them are in the store."""
    left_out: dict[str, str]
    """Id → why an experiment cannot be planned."""
    methods_left_out: list[str]
    """A sentence for each experiment that `--methods all` does not add every method to."""
    kinds: list[KindOfStage]
    fetched: list[Fetched]
    training: list[Training]
    store_bytes: float
    checkpoint_bytes: float
    """Of the runs that may train at the same time."""
    unknown: dict[str, int]
    """What is not known → how many stages depend on it."""
    runs_code: bool
    reached: Utilisation
    scheduled_seconds: float
    """Duration on a processor, with as many stages at a time as there are workers."""

    @property
    def total(self) -> KindOfStage:
        """All kinds together."""
        whole = KindOfStage("total")
        for one in self.kinds:
            whole.stages += one.stages
            whole.in_store += one.in_store
            whole.unknown += one.unknown
            whole.flops += one.flops
            whole.processor_seconds += one.processor_seconds
            for name, seconds in one.gpu_seconds.items():
                whole.gpu_seconds[name] += seconds
        return whole

    def as_json(self) -> dict[str, Any]:
        """Return the plan as FILE.json has it."""
        return {
            "profile": self.profile,
            "device": self.device,
            "workers": self.workers,
            "experiments": [
                {"id": id, "stages": stages, "in_store": stored}
                for id, stages, stored in self.experiments
            ],
            "left_out": self.left_out,
            "methods_left_out": self.methods_left_out,
            "stages": [one.as_json() for one in self.kinds],
            "total": self.total.as_json(),
            "processor_hours": self.scheduled_seconds / 3600,
            "fetch": [one.as_json() for one in self.fetched],
            "training_memory": [
                {
                    "example": one.example,
                    "runs": one.runs,
                    "bytes": one.memory.as_json(),
                    "total_bytes": one.memory.total,
                    "fits": {str(card): one.memory.fits(card) for card in CARDS},
                }
                for one in self.training
            ],
            "disk": {
                "store_bytes": self.store_bytes,
                "checkpoint_bytes": self.checkpoint_bytes,
                "download_bytes": sum(one.download or 0.0 for one in self.fetched),
                "downloads_of_unknown_size": sum(one.download is None for one in self.fetched),
            },
            "unknown": self.unknown,
            "runs_code": self.runs_code,
            "assumed": {
                "utilisation": self.reached.compute,
                "bandwidth_utilisation": self.reached.bandwidth,
                "loading_seconds": LOADING,
            },
        }


def make_plan_of(
    experiments: Sequence[Experiment], request: RunRequest, options: PlanOptions
) -> Plan:
    """Compute what experiments will take; nothing is run, fetched or written.

    Args:
        experiments: the tables and figures.
        request: the options of the run.
        options: those of the plan.

    Raises:
        UserError: a mistake in the request, or no experiment can be planned.
    """
    # A plan runs no program, so that it needs no permission for one.
    described, left_out = describe_all(experiments, request, permit=True)
    workloads = Workloads()
    order = topological([stage for one in described for stage in one.targets])
    works = {stage.address: workloads.of(stage) for stage in order}
    stored = {stage.address for stage in order if (request.store / stage.address).is_dir()}
    missing = [stage for stage in order if stage.address not in stored]
    workers = _workers(described)
    return Plan(
        profile=request.profile,
        device=described[0].profile.device,
        workers=workers,
        experiments=[
            (one.experiment.id, len(own), sum(stage.address in stored for stage in own))
            for one in described
            for own in [topological(one.targets)]
        ],
        left_out=left_out,
        methods_left_out=[note for one in described if (note := one.left_out)],
        kinds=_kinds(order, works, stored, options.reached),
        fetched=fetched(missing),
        training=_training(missing, works),
        store_bytes=sum(works[stage.address].disk for stage in missing),
        checkpoint_bytes=_largest((works[stage.address].checkpoints for stage in missing), workers),
        unknown=_unknown(works[stage.address] for stage in missing),
        runs_code=any(
            get_domain(one.experiment.domain).runs_code
            and not getattr(one.profile, "embedded", False)
            for one in described
        )
        and not request.allow_code_execution,
        reached=options.reached,
        scheduled_seconds=scheduled_seconds(
            missing,
            {stage.address: processor_seconds(works[stage.address]) for stage in missing},
            workers,
        ),
    )


def scheduled_seconds(stages: Sequence[Stage], seconds: Mapping[str, float], workers: int) -> float:
    """Return how long stages take if each begins as soon as its inputs and a worker are there.

    Args:
        stages: those to run, inputs first.
        seconds: address → duration.
        workers: number of stages that run at once.
    """
    free = [0.0] * workers
    ends: dict[str, float] = {}
    for stage in stages:
        ready = max((ends.get(one.address, 0.0) for one in stage.inputs.values()), default=0.0)
        # Of the workers that are free by then, the last one leaves the others to other stages.
        idle = [place for place in range(workers) if free[place] <= ready]
        place = max(idle, key=free.__getitem__) if idle else free.index(min(free))
        free[place] = max(free[place], ready) + seconds[stage.address]
        ends[stage.address] = free[place]
    return max(ends.values(), default=0.0)


def show_plan(plan: Plan) -> None:
    """Print a plan; see `plan.show`."""
    from harness.commands.plan.show import plan_lines

    for line in plan_lines(plan):
        print(line)


def _workers(described: Sequence[Prepared]) -> int:
    return max(getattr(one.engine, "workers", None) or 1 for one in described)


def _kinds(
    order: Sequence[Stage], works: dict[str, Work], stored: set[str], reached: Utilisation
) -> list[KindOfStage]:
    found: dict[str, KindOfStage] = {}
    for stage in order:
        work = works[stage.address]
        kind = found.setdefault(work.kind, KindOfStage(work.kind))
        kind.stages += 1
        if stage.address in stored:
            kind.in_store += 1
            continue
        kind.unknown += work.unknown is not None
        kind.flops += work.flops + work.decoded.flops
        kind.processor_seconds += processor_seconds(work)
        for gpu in GPUS:
            kind.gpu_seconds[gpu.name] += own_seconds(work)
            if work.flops:
                busy = gpu_seconds(gpu, work.flops, work.precision, work.decoded, reached)
                kind.gpu_seconds[gpu.name] += LOADING + busy
    return list(found.values())


def _training(missing: Sequence[Stage], works: dict[str, Work]) -> list[Training]:
    found: dict[Memory, Training] = {}
    for stage in missing:
        memory = works[stage.address].memory
        if memory is not None:
            runs = found[memory].runs if memory in found else 0
            example = found[memory].example if memory in found else stage.name
            found[memory] = Training(example, runs + 1, memory)
    return sorted(found.values(), key=lambda one: -one.memory.total)


def _largest(sizes: Iterable[float], count: int) -> float:
    return sum(sorted(sizes, reverse=True)[:count])


def _unknown(works: Iterable[Work]) -> dict[str, int]:
    found: dict[str, int] = {}
    for work in works:
        if work.unknown is not None:
            found[work.unknown] = found.get(work.unknown, 0) + 1
    return found
