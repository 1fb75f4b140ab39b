"""Measures time and memory of several systems that take steps in turn on the same pairs."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shapes import Shape, write_model, write_pairs, write_real_pairs

REPOSITORY = Path(__file__).parents[1]
WARM_UP = 2
"""Steps before the measured ones: the first allocates, compiles and creates optimizer state."""


class BenchmarkError(Exception):
    """A system could not be measured; the message names it and quotes its last output."""


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
    """One system in a separate process, ready to take a step."""

    def __init__(self, system: str, spec: dict[str, Any], folder: Path) -> None:
        self.system = system
        self._log = folder / f"{system.replace(':', '_')}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=REPOSITORY,
            )
        self._answer()

    def step(self) -> dict[str, Any]:
        """Take one step and return its seconds and the peak of memory so far."""
        return self.ask("step")

    def ask(self, word: str) -> dict[str, Any]:
        """Send a word that benchmarks.worker knows and return its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = self._log.read_text().strip().splitlines()[-3:]
            raise BenchmarkError(f"{self.system} stopped: {' | '.join(words)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


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
        write_model(shape, folder / "model")
        file = folder / "pairs.jsonl"
        if pairs is None:
            write_pairs(shape, steps * shape.pairs, file)
        else:
            pairs(file)
        workers: list[Worker] = []
        found: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
        try:
            for system in systems:
                progress(f"{label}: starting {system}")
                workers.append(
                    Worker(
                        system,
                        {
                            "system": system,
                            "device": device,
                            "dtype": dtype,
                            "threads": threads,
                            "model": str(folder / "model"),
                            "pairs": str(file),
                            "cache": str(folder / f"cache-{system.replace(':', '_')}"),
                            "output": str(folder / f"output-{system.replace(':', '_')}"),
                            "batch_size": shape.pairs,
                            "steps": steps,
                        },
                        folder,
                    )
                )
            for step in range(steps):
                progress(f"{label}: step {step + 1} of {steps}")
                for worker in order.sample(workers, len(workers)):
                    found[worker.system].append(worker.step())
        finally:
            for worker in workers:
                worker.close()
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
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * width**3 / best


def real_pairs(
    shape: Shape, rows: Iterable[tuple[str, str, str]], count: int
) -> Callable[[Path], None]:
    """Return a function for `measure` that writes `count` real pairs, drawn with a fixed seed."""
    drawn = random.Random(0).sample(list(rows), count)
    return lambda file: write_real_pairs(shape, drawn, file)
