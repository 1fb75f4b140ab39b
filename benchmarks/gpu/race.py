"""Whole training steps of this trainer and of TRL's, each system in a process of its own.

All processes of a shape start at once, since loading and compiling take most of the time, and take
their steps one system after another, since their activations would not fit on a card together. A
system that fails leaves the others' results as they are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.card import name_of
from benchmarks.gpu.report import Verdict
from benchmarks.measure import (
    MODEL,
    PAIRS,
    WARM_UP,
    Measurement,
    Worker,
    measurement,
    system_spec,
)
from benchmarks.process import BenchmarkError, LateError
from benchmarks.shapes import FULL, LAPTOP, Shape, write_model, write_pairs
from sparsepo.data.jsonl import write_jsonl

PEER = "trl:dpo"
PACKAGES = {"trl": ("trl", "datasets"), "trl-liger": ("trl", "datasets", "liger_kernel")}
"""Kind of system → what must be installed for it."""

LORA_R = 16
READY_LIMIT, STEP_LIMIT = 120.0, 60.0
"""Seconds after which a system that is not ready, or a step, has failed; both compile. One that had
less time than this was not run."""


class _NoTimeError(Exception):
    """A system had less time than its limit allows."""


@dataclass(frozen=True)
class Contest:
    """A shape and the systems that are compared on it."""

    name: str
    shape: Shape
    systems: tuple[str, ...]
    lora_r: int | None = None
    varied: bool = False
    """Whether the lengths of the pairs vary, up to the shape's."""

    @property
    def title(self) -> str:
        """Its title in the card."""
        trained = "whole model" if self.lora_r is None else f"LoRA, rank {self.lora_r}"
        lengths = ", lengths that vary" if self.varied else ""
        return f"{self.shape.title}{lengths}, {trained}"


def contests(small: bool) -> tuple[Contest, ...]:
    """Return what is compared, the most important first.

    Args:
        small: reduced to a size for trying the code.
    """
    hh, tldr = FULL[1], FULL[2]
    varied = replace(LAPTOP, title="SmolLM2 135M, HH", prompt=400, response=300)
    found = (
        Contest("hh", hh, ("ours:sparsepo-common", "ours:dpo", PEER, "ours-sdpa:dpo")),
        Contest("tldr", tldr, ("ours:sparsepo-common", "ours:dpo", PEER), LORA_R),
        Contest(
            "smollm2",
            LAPTOP,
            ("ours:sparsepo-common", "ours:dpo", PEER, "trl-liger:dpo"),
            LORA_R,
        ),
        # Every step has rows of another shape, as real data has: does FlexAttention compile again?
        Contest("varied", varied, (PEER, "ours-sdpa:dpo", "ours:dpo"), LORA_R, varied=True),
    )
    if not small:
        return found
    return tuple(replace(contest, shape=_small(contest.shape)) for contest in found)


def _small(shape: Shape) -> Shape:
    return replace(
        shape,
        title=f"{shape.title}, reduced",
        layers=2,
        width=64,
        heads=4,
        kv_heads=2 if shape.kv_heads else None,
        feed_forward=128 if shape.feed_forward else None,
        vocabulary=400,
        prompt=9,
        response=7,
        pairs=2,
    )


def missing_package(system: str) -> str | None:
    """Return the package that a system lacks, or None."""
    kind = system.partition(":")[0]
    return next((name for name in PACKAGES.get(kind, ()) if find_spec(name) is None), None)


@dataclass
class Result:
    """What became of a system."""

    verdict: Verdict
    text: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Race:
    """The processes of one contest.

    Args:
        contest: what is compared.
        folder: an empty folder for the model's configuration, the pairs and the logs.
        rounds: measured steps of each system.
        device: "cpu" or "cuda".
        environment: further environment variables of the processes.
    """

    contest: Contest
    folder: Path
    rounds: int
    device: str
    environment: Mapping[str, str] = field(default_factory=dict)
    failures: dict[str, Result] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    """System → the seconds of its first step, which compiles kernels."""
    _workers: dict[str, Worker] = field(default_factory=dict)
    _started: float = 0.0

    def start(self) -> None:
        """Write model and pairs, and start a process for every system that is installed."""
        shape, steps = self.contest.shape, self.rounds + WARM_UP
        self._started = time.monotonic()
        write_model(shape, self.folder / MODEL, weights=False)
        write = write_varied_pairs if self.contest.varied else write_pairs
        write(shape, steps * shape.pairs, self.folder / PAIRS)
        dtype = "bfloat16" if self.device == "cuda" else "float32"
        for system in self.contest.systems:
            lacking = missing_package(system)
            if lacking is not None:
                name = lacking.replace("_", "-")
                self.failures[system] = Result("not run", f"{name} is not installed")
                continue
            spec = system_spec(
                system,
                shape,
                self.folder,
                steps,
                self.device,
                dtype,
                lora_r=self.contest.lora_r,
                in_memory=True,
            )
            self._workers[system] = Worker(system, spec, self.folder, self.environment)

    def wait(self, seconds: float) -> None:
        """Wait until every process is ready to take steps.

        Args:
            seconds: to wait; those that are not ready then are given up.
        """
        deadline = time.monotonic() + seconds
        for system, worker in list(self._workers.items()):

            def ready(worker: Worker = worker) -> None:
                try:
                    worker.ready(max(0.0, deadline - time.monotonic()))
                except LateError as error:
                    if time.monotonic() < self._started + READY_LIMIT:
                        raise _NoTimeError from error
                    raise

            self._attempt(system, ready)

    def run(self, seconds: float) -> Measurement | None:
        """Take all steps, one system after another; end each process after its own.

        Args:
            seconds: for all systems; `failures` says which had no time left.

        Returns:
            The measurement of the systems that finished, None if none did.
        """
        deadline = time.monotonic() + seconds
        found: dict[str, list[dict[str, Any]]] = {}
        for system, worker in list(self._workers.items()):
            answers: list[dict[str, Any]] = []

            def take(worker: Worker = worker, answers: list[dict[str, Any]] = answers) -> None:
                for _ in range(self.rounds + WARM_UP):
                    left = min(STEP_LIMIT, deadline - time.monotonic())
                    if left <= 0:
                        raise _NoTimeError
                    try:
                        answers.append(worker.step(left))
                    except LateError as error:
                        if left < STEP_LIMIT:
                            raise _NoTimeError from error
                        raise

            if self._attempt(system, take):
                found[system] = answers
                self.first[system] = answers[0]["seconds"]
            self._end(system)
        shape = self.contest.shape
        return measurement(shape, self.contest.title, found) if found else None

    def close(self) -> None:
        """End all processes."""
        for system in list(self._workers):
            self._end(system)

    def _attempt(self, system: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except _NoTimeError:
            self.failures[system] = Result("not run", "no time was left")
        except BenchmarkError as error:
            ours = system.startswith("ours")
            # A peer that cannot run is no fault of this library.
            self.failures[system] = Result("failed" if ours else "not run", _short(error))
        else:
            return True
        self._end(system)
        return False

    def _end(self, system: str) -> None:
        worker = self._workers.pop(system, None)
        if worker is not None:
            worker.close()

    def results(self, found: Measurement | None) -> dict[str, Result]:
        """Return what became of every system.

        Args:
            found: what `run` returned.
        """
        results: dict[str, Result] = {}
        for system in self.contest.systems:
            if found is not None and system in found.seconds:
                text = f"{describe(found, system)}; the first step took {self.first[system]:.1f} s"
                results[system] = Result("measured", text, {"first step": self.first[system]})
            else:
                results[system] = self.failures.get(system, Result("not run", "it was not reached"))
        return results


def _short(error: BenchmarkError) -> str:
    text = str(error)
    for words in ("OutOfMemoryError", "out of memory"):
        if words in text:
            return "out of memory"
    return text if len(text) <= 300 else f"{text[:300]} …"


def describe(found: Measurement, system: str) -> str:
    """Return a system's time and memory, and their ratios to the peer's."""
    seconds, peak = found.median(system), found.peak_bytes[system]
    text = f"{seconds:.3f} s per step, {peak / 1e9:.2f} GB"
    if PEER in found.seconds and system != PEER:
        middle, low, high = found.time_ratio(system, PEER)
        memory = found.memory_ratio(system, PEER)
        text += f"; {middle:.2f} [{low:.2f}, {high:.2f}] of the time of {name_of(PEER)}, "
        text += f"{memory:.2f} of its memory"
    return text


def write_varied_pairs(shape: Shape, count: int, file: Path, seed: int = 0) -> None:
    """Write pairs of random words whose lengths vary as those of dialogues do.

    Args:
        shape: its prompt and response are the longest lengths; medians are a fifth of them.
        count: number of pairs.
        file: the output file, JSON lines.
        seed: of the draw.
    """
    generator = random.Random(seed)

    def words(longest: int) -> str:
        number = round(generator.lognormvariate(0, 0.7) * longest / 5)
        drawn = min(max(1, number), longest - 1)
        return " ".join(f"w{generator.randrange(shape.vocabulary - 1)}" for _ in range(drawn))

    write_jsonl(
        (
            {
                "prompt": words(shape.prompt),
                "chosen": f" {words(shape.response)}",
                "rejected": f" {words(shape.response)}",
            }
            for _ in range(count)
        ),
        file,
    )


def systems_of(selected: Sequence[Contest]) -> list[str]:
    """Return all systems of some contests, each once."""
    return list(dict.fromkeys(system for contest in selected for system in contest.systems))
