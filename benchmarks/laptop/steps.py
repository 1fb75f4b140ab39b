"""Steps of every system in turn, and of ours against their matrix products."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.laptop.found import Found, Shares
from benchmarks.laptop.models import LENGTHS, LaptopModel
from benchmarks.measure import PAIRS, WARM_UP, Worker, measurement, system_spec
from benchmarks.progress import say
from benchmarks.shapes import Shape, write_pairs

RANK = 16
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def measure_steps(
    model: LaptopModel,
    lengths: str,
    systems: Sequence[str],
    folder: Path,
    found: Found,
    *,
    rounds: int,
    threads: int,
) -> None:
    """Take steps of every system in turn, then compare ours with their matrix products.

    Args:
        model: the model.
        lengths: a name in LENGTHS.
        systems: the systems to measure.
        folder: the model's folder.
        found: takes the result.
        rounds: measured steps of each system.
        threads: CPU threads of each process.

    Raises:
        BenchmarkError: a system cannot be measured.
    """
    title, prompt, response = LENGTHS[lengths]
    config = model.config
    shape = Shape(
        model.name,
        f"{model.title}, {title}",
        config["model_type"],
        config["num_hidden_layers"],
        config["hidden_size"],
        config["num_attention_heads"],
        model.vocabulary,
        prompt,
        response,
        model.pairs,
    )
    # The recorded step, and one beside each time that the products are computed alone.
    steps = WARM_UP + 2 * rounds + 1
    order = random.Random(0)
    taken: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory() as place:
        write_pairs(shape, steps * shape.pairs, Path(place) / PAIRS)
        try:
            for system in systems:
                say(f"{shape.title}: starting {system}")
                spec = system_spec(
                    system,
                    shape,
                    Path(place),
                    steps,
                    "cpu",
                    "float32",
                    threads,
                    model=str(folder),
                    lora_r=RANK,
                    lora_targets=PROJECTIONS,
                )
                workers.append(Worker(system, spec, Path(place)))
                workers[-1].ready()
            for step in range(WARM_UP + rounds):
                for worker in order.sample(workers, len(workers)):
                    say(f"{shape.title}: step {step + 1} of {WARM_UP + rounds}, {worker.system}")
                    taken[worker.system].append(worker.step())
            found.steps.append(measurement(shape, shape.title, taken))
            # One at a time, because what is recorded takes several times the memory of a step.
            workers.sort(key=lambda worker: worker.system.startswith("ours"))
            while workers:
                worker = workers[0]
                if worker.system.startswith("ours"):
                    say(f"{shape.title}: products of {worker.system}")
                    found.shares.append(_shares(worker, shape.title, rounds))
                worker.close()
                workers.remove(worker)
        finally:
            for worker in workers:
                worker.close()


def _shares(worker: Worker, label: str, rounds: int) -> Shares:
    shares = Shares(label, worker.system)
    worker.ask("record")
    worker.ask("products")  # to warm up
    for _ in range(rounds):
        shares.step.append(worker.step()["seconds"])
        alone = worker.ask("products")
        shares.products.append(alone["products"])
        shares.with_attention.append(alone["with_attention"])
        shares.flops = alone["flops"]
    return shares
