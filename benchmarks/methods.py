"""`python -m benchmarks.methods`: the time of a training step of each method, relative to DPO's.

Every method trains a model of random weights on the same pairs, in turn with DPO, several times. A
method's time is the median of its steps after the first two; its ratio is to the run of DPO just
before. Further models are DPO's start, and scores and weights are made up: they change no time.
What a method computes beyond DPO stands beside its ratio. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.card import hardware, library_versions
from benchmarks.coverage import CARDS
from benchmarks.measure import WARM_UP
from benchmarks.shapes import NARROW, Shape, write_model, write_pairs
from sparsepo import POConfig, POTrainer, UserError
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.data.pairs import read_pairs
from sparsepo.methods import BUILT_IN, Method
from sparsepo.training.loading import load_tokenizer
from sparsepo.types import PreferencePair

PEER = "dpo"


@dataclass(frozen=True)
class Cost:
    """A method's time of a step, relative to DPO's."""

    method: str
    seconds: float
    """Median of a step over all runs."""
    ratios: tuple[float, ...]
    """One per run."""


class _Clock(TrainerCallback):
    """Records the seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._start = _now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(_now() - self._start)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def step_seconds(method: str, model: Path, pairs: list[PreferencePair], steps: int) -> list[float]:
    """Return the seconds of a method's steps after the warm-up.

    Args:
        method: a built-in method.
        model: folder of the initial model.
        pairs: enough for one step, with scores and probabilities.
        steps: measured steps.
    """
    needs = BUILT_IN[method].needs
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {}
        if needs.token_weights:
            options["token_masks"] = str(_weights(pairs, model, Path(folder) / "weights.jsonl"))
        trainer = POTrainer(
            str(model),
            args=POConfig(
                output_dir=folder,
                method=method,
                per_device_train_batch_size=len(pairs),
                max_steps=WARM_UP + steps,
                learning_rate=1e-6,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
                # NaN and huge values of untrained models are no concern here.
                logging_steps=10_000,
                **options,
            ),
            train_dataset=pairs,
            callbacks=[clock],
            **{name: str(model) for name in needs.models},  # type: ignore[arg-type]
        )
        trainer.train()
    return clock.seconds[WARM_UP:]


def _weights(pairs: Sequence[PreferencePair], model: Path, file: Path) -> Path:
    tokenized = tokenize_pairs(pairs, load_tokenizer(str(model)), max_length=1024).pairs
    rows = (
        {
            "pair_id": pair.pair_id,
            "reward_mask": {
                "chosen": [1.0] * len(pair.chosen_ids),
                "rejected": [1.0] * len(pair.rejected_ids),
            },
        }
        for pair in tokenized
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def measure(methods: Sequence[str], shape: Shape, runs: int, steps: int) -> list[Cost]:
    """Measure methods, each in turn with DPO.

    Args:
        methods: built-in methods.
        shape: the model and the lengths of its pairs.
        runs: of each method.
        steps: measured steps of a run.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "pairs.jsonl"
        write_model(shape, model)
        write_pairs(shape, shape.pairs, file)
        pairs = [
            replace(pair, scores=(2.0, 1.0), win_probability=0.75)
            for pair in read_pairs(file).pairs
        ]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        for _ in range(runs):
            for name in methods:
                peer = median(step_seconds(PEER, model, pairs, steps))
                own = median(step_seconds(name, model, pairs, steps))
                found[name].append((own, own / peer))
    return [
        Cost(name, median(own for own, _ in values), tuple(ratio for _, ratio in values))
        for name, values in found.items()
    ]


def explanation(cls: type[Method]) -> str:
    """Return what a method computes beyond DPO's step, or does not need to."""
    needs = cls.needs
    parts = [
        ("no reference", not needs.reference),
        ("no rejected responses", not needs.rejected),
        ("token KL, which reads the reference's distribution", needs.kl),
        ("reverse KL, which reads the reference's distribution", needs.reverse_kl),
        (f"masks ({needs.mask})", needs.mask != "none"),
        ("forward passes with other prompts", needs.mismatched),
        ("transport plans", needs.hidden),
        ("a forward and backward pass for the tokens' influence", needs.importance),
        ("log Σ π²", needs.log_sum_sq_probs),
    ]
    return "; ".join(text for text, holds in parts if holds)


def markdown(facts: dict[str, Any], costs: Sequence[Cost]) -> str:
    """Return a card's text."""
    lines = [
        f"# Step time of every method, {facts['date']}",
        "",
        "```",
        facts["command"],
        "```",
        "",
        f"{facts['machine']}; load average {facts['load']}. {facts['shape']}, {facts['pairs']} "
        "pairs per step. The ratio is to DPO's step in the run just before; smallest and largest "
        "in brackets.",
        "",
        "| method | seconds per step | ratio to DPO | beyond DPO's step |",
        "|---|---:|---:|---|",
    ]
    for cost in sorted(costs, key=lambda one: median(one.ratios)):
        spread = f"[{min(cost.ratios):.2f}, {max(cost.ratios):.2f}]"
        why = explanation(BUILT_IN[cost.method])
        lines.append(
            f"| {cost.method} | {cost.seconds:.3f} | {median(cost.ratios):.2f} {spread} | {why} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; write a card with --name."""
    parser = argparse.ArgumentParser(description=__doc__)
    shapes = {shape.name: shape for shape in NARROW}
    parser.add_argument("--shape", choices=list(shapes), default="hh")
    parser.add_argument("--methods", help="comma-separated; default: all")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--name", help="of the card that is written to benchmarks/cards")
    options = parser.parse_args(arguments)
    on_pairs = [name for name, cls in BUILT_IN.items() if not cls.needs.rollout]
    names = options.methods.split(",") if options.methods else on_pairs
    for name in names:
        if name not in on_pairs:
            raise UserError(
                f"'{name}' is no method that trains on pairs; choose from {', '.join(on_pairs)}."
            )
    shape = shapes[options.shape]
    load = os.getloadavg()[0]
    costs = measure(names, shape, options.runs, options.steps)
    machine = [f"{name} {value}" for name, value in hardware("cpu", None).items() if value]
    given = sys.argv[1:] if arguments is None else arguments
    facts: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.methods {' '.join(given)}".strip(),
        "machine": "; ".join(machine),
        "load": f"{load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end",
        "shape": shape.title,
        "pairs": shape.pairs,
        "versions": library_versions(),
    }
    text = markdown(facts, costs)
    print(text)
    if options.name:
        (CARDS / f"{options.name}.md").write_text(text)
        facts["costs"] = [asdict(one) for one in costs]
        (CARDS / f"{options.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
