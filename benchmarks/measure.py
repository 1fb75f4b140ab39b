"""Measures time and memory of several systems that take steps in turn on the same pairs."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.clock import synchronize
from benchmarks.process import BenchmarkError, LineProcess
from benchmarks.shapes import LORA_TARGETS, Shape, write_model, write_pairs, write_real_pairs

MODEL, PAIRS = "model", "pairs.jsonl"
"""The model's folder and the file of pairs in a measurement's folder."""

WARM_UP = 2
"""Steps before the measured ones: the first allocates, compiles and creates optimizer state."""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one shape: for each system a time per round, and a peak of memory."""

    shape: Shape
    label: str
    seconds: dict[str, list[float]]
    """One value per round; in a round every system takes one step on the same pairs."""
    peak_bytes: dict[str, int]
    sparsity: dict[str, float] = field(default_factory=dict)
    """Percentage of zeros in the learned masks during the run, for systems with such masks."""

    def median(self, system: str) -> float:
        """Return the median seconds of a step."""
        return statistics.median(self.seconds[system])

    def time_ratio(self, system: str, peer: str) -> tuple[float, float, float]:
        """Return the median over rounds of time / peer's time, with the smallest and largest."""
        ratios = [
            mine / theirs
            for mine, theirs in zip(self.seconds[system], self.seconds[peer], strict=True)
        ]
        return statistics.median(ratios), min(ratios), max(ratios)

    def memory_ratio(self, system: str, peer: str) -> float:
        """Return peak memory over the peer's."""
        return self.peak_bytes[system] / self.peak_bytes[peer]


class Worker:
    """One system in a separate process. Call `ready` before the first step.

    Args:
        system: a name that benchmarks.worker knows.
        spec: what `system_spec` returns.
        folder: where its log is written.
        environment: further environment variables of the process.
    """

    def __init__(
        self,
        system: str,
        spec: dict[str, Any],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.system = system
        log = folder / f"{system.replace(':', '_')}.log"
        arguments = [json.dumps(spec)]
        self._process = LineProcess(system, "benchmarks.worker", arguments, log, environment)

    def ready(self, limit: float | None = None) -> None:
        """Wait until the process has made its trainer.

        Args:
            limit: seconds to wait; None waits as long as it takes.

        Raises:
            BenchmarkError: it stopped, or took too long.
        """
        self._process.answer(limit)

    def step(self, limit: float | None = None) -> dict[str, Any]:
        """Take one step and return its seconds and the peak of memory so far.

        Args:
            limit: as of `ready`.

        Raises:
            BenchmarkError: as of `ready`.
        """
        return self.ask("step", limit)

    def ask(self, word: str, limit: float | None = None) -> dict[str, Any]:
        """Send a word that benchmarks.worker knows, and return its answer.

        Args:
            word: such as "record".
            limit: as of `ready`.

        Raises:
            BenchmarkError: as of `ready`.
        """
        self._process.tell(word)
        return self._process.answer(limit)

    def close(self) -> None:
        """End the process."""
        self._process.close()


def measure(
    shape: Shape,
    systems: Sequence[str],
    rounds: int,
    *,
    label: str | None = None,
    pairs: Callable[[Path], None] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Measurement:
    """Measure steps of a shape.

    Args:
        shape: model and lengths.
        systems: names that benchmarks.worker knows, such as "ours:dpo".
        rounds: measured steps per system; the order of the systems changes in each round.
        label: name in the card; None uses the shape's title.
        pairs: writes (rounds + WARM_UP) × shape.pairs pairs to a file; None writes random pairs.
        device: "cpu" or "cuda".
        dtype: dtype of the weights.
        threads: CPU threads per process; None uses PyTorch's default.
        progress: called with progress messages.

    Raises:
        BenchmarkError: a system stopped.
    """
    label = label or shape.title
    steps = rounds + WARM_UP
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress(f"{label}: model and pairs")
        write_model(shape, folder / MODEL)
        if pairs is None:
            write_pairs(shape, steps * shape.pairs, folder / PAIRS)
        else:
            pairs(folder / PAIRS)
        workers: list[Worker] = []
        found: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
        try:
            for system in systems:
                progress(f"{label}: starting {system}")
                spec = system_spec(system, shape, folder, steps, device, dtype, threads)
                workers.append(Worker(system, spec, folder))
                workers[-1].ready()
            for step in range(steps):
                progress(f"{label}: step {step + 1} of {steps}")
                for worker in order.sample(workers, len(workers)):
                    found[worker.system].append(worker.step())
        finally:
            for worker in workers:
                worker.close()
    return measurement(shape, label, found)


def system_spec(
    system: str,
    shape: Shape,
    folder: Path,
    steps: int,
    device: str,
    dtype: str,
    threads: int | None = None,
    lora_targets: Sequence[str] | None = None,
    **further: Any,
) -> dict[str, Any]:
    """Return what benchmarks.worker needs to know about a system.

    Args:
        system: a name that benchmarks.worker knows.
        shape: model and lengths.
        folder: holds the model in MODEL and the pairs in PAIRS.
        steps: steps that will be taken.
        device: "cpu" or "cuda".
        dtype: dtype of the weights.
        threads: CPU threads; None uses PyTorch's default.
        lora_targets: the projections that get adapters; by default those of LORA_TARGETS.
        further: `lora_r`, the rank of adapters, without which the whole model is trained;
            `in_memory`, whether the model's folder holds no weights: they are drawn on the device;
            and whatever is to replace a value, such as the model's folder.
    """
    own = system.replace(":", "_")
    return {
        "system": system,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "model": str(folder / MODEL),
        "pairs": str(folder / PAIRS),
        "cache": str(folder / f"cache-{own}"),
        "output": str(folder / f"output-{own}"),
        "batch_size": shape.pairs,
        "steps": steps,
        "lora_targets": list(lora_targets or LORA_TARGETS[shape.architecture]),
        **further,
    }


def require_peer(systems: Iterable[str]) -> None:
    """Check that TRL is installed if one of the systems is TRL's.

    Args:
        systems: the systems to be measured.

    Raises:
        BenchmarkError: it is not installed.
    """
    if any(system.startswith("trl") for system in systems) and find_spec("trl") is None:
        raise BenchmarkError(
            "TRL is not installed; run python -m pip install -e .[benchmark], or exclude its "
            "systems with --systems."
        )


def measurement(shape: Shape, label: str, found: dict[str, list[dict[str, Any]]]) -> Measurement:
    """Return the measurement that the workers' answers make up.

    Args:
        shape: model and lengths.
        label: name in the card.
        found: for each system the answers to all its steps, WARM_UP included.
    """
    return Measurement(
        shape,
        label,
        {name: [step["seconds"] for step in taken[WARM_UP:]] for name, taken in found.items()},
        {name: taken[-1]["peak"] for name, taken in found.items()},
        {name: taken[-1]["sparsity"] for name, taken in found.items() if "sparsity" in taken[-1]},
    )


def matmul_flops(device: str, dtype: str, threads: int | None, repeats: int = 20) -> float:
    """Return the machine's measured matmul rate in floating-point operations per second.

    It is the best of several products of square matrices, 2048 wide on a CPU and 8192 on a GPU,
    and the baseline for utilisation.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    width = 8192 if device == "cuda" else 2048
    left, right = (
        torch.randn(width, width, device=device, dtype=getattr(torch, dtype)) for _ in range(2)
    )
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * width**3 / best


def real_pairs(
    shape: Shape, rows: Iterable[tuple[str, str, str]], count: int
) -> Callable[[Path], None]:
    """Return a function for `measure` that writes `count` real pairs, drawn with a fixed seed."""
    drawn = random.Random(0).sample(list(rows), count)
    return lambda file: write_real_pairs(shape, drawn, file)
