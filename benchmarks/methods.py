"""`python -m benchmarks.methods`: the time of a training step of each method, relative to DPO's.

Every method trains a model of random weights on the same pairs, in groups of a few methods with
DPO, as often as the time allows. A group takes its steps in turn: the ratio of a step is to the
mean of DPO's steps before and after, so that a machine which is slower for a while slows both.
Further models are DPO's start, and scores and weights are made up: they change no time. What a
method computes beyond DPO stands beside its ratio, with the largest ratio that its passes explain
(`benchmarks.passes`).
`--name` writes a card, after every group; `--resume` goes on with it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.card import hardware, library_versions
from benchmarks.coverage import CARDS
from benchmarks.passes import NOISE, explanation, facts_of_passes
from benchmarks.shapes import NARROW, Shape, write_model, write_pairs
from benchmarks.steps import steps_in_turn
from sparsepo import UserError
from sparsepo.data.pairs import read_pairs
from sparsepo.errors import first_line
from sparsepo.fused import keep_bytes_on
from sparsepo.methods import BUILT_IN

GROUP = 4
"""Methods that take their steps in turn with one run of DPO."""

MINUTES = 15.0

ON_PAIRS = tuple(name for name, cls in BUILT_IN.items() if not cls.needs.rollout)


@dataclass(frozen=True)
class Cost:
    """A method's time of a step, relative to DPO's."""

    method: str
    seconds: float
    """Median of its steps."""
    ratios: tuple[float, ...]
    """One per step."""


@dataclass
class Record:
    """What has been measured so far."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Method → the seconds of each measured step."""
    ratios: dict[str, list[float]] = field(default_factory=dict)
    """Method → the same, relative to DPO's."""
    failures: dict[str, str] = field(default_factory=dict)
    """Method → why it could not be measured; it is not tried again."""

    def costs(self) -> list[Cost]:
        """Return what the methods cost that were measured."""
        return [
            Cost(name, median(values), tuple(self.ratios[name]))
            for name, values in self.seconds.items()
        ]

    def next_group(self, methods: Sequence[str], steps: int) -> list[str]:
        """Return the methods that were measured least often; none once all have all their steps.

        Args:
            methods: built-in methods, in the order in which they are measured.
            steps: of each method, over all its runs.
        """
        done = {name: len(self.seconds.get(name, ())) for name in methods}
        open_ = [name for name in methods if name not in self.failures and done[name] < steps]
        fewest = min((done[name] for name in open_), default=0)
        return [name for name in open_ if done[name] == fewest][:GROUP]


def measure(
    methods: Sequence[str],
    shape: Shape,
    runs: int,
    steps: int,
    *,
    record: Record | None = None,
    seconds: float = math.inf,
    save: Callable[[Record], None] = lambda record: None,
) -> Record:
    """Measure methods, each in a group that takes its steps in turn with DPO.

    Args:
        methods: built-in methods.
        shape: the model and the lengths of its pairs.
        runs: of each method, at most.
        steps: measured steps of a run.
        record: what was measured before; it is added to.
        seconds: no group is begun that would probably end later than that.
        save: called after every group.
    """
    record = Record() if record is None else record
    started, longest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "pairs.jsonl"
        write_model(shape, model)
        write_pairs(shape, shape.pairs, file)
        pairs = [
            replace(pair, scores=(2.0, 1.0), win_probability=0.75)
            for pair in read_pairs(file).pairs
        ]
        while group := record.next_group(methods, runs * steps):
            began = time.monotonic()
            if began - started + longest > seconds:
                break
            taken, ratios, failures = steps_in_turn(group, model, pairs, steps)
            for name, own in taken.items():
                record.seconds.setdefault(name, []).extend(own)
                record.ratios.setdefault(name, []).extend(ratios[name])
            for name, error in failures.items():
                # The others are measured nevertheless, and the card says what happened.
                record.failures[name] = f"{type(error).__name__}: {first_line(error)}"
            longest = max(longest, time.monotonic() - began)
            save(record)
    return record


def markdown(facts: dict[str, Any], record: Record) -> str:
    """Return a card's text.

    Args:
        facts: `facts_of`.
        record: what was measured.
    """
    lines = [
        f"# Step time of every method, {facts['date']}",
        "",
        "```",
        facts["command"],
        "```",
        "",
        f"{facts['machine']}; load average {facts['load']}. {facts['shape']}, {facts['pairs']} "
        "pairs per step. Methods and DPO take steps in turn, and a ratio is to the mean of DPO's "
        "steps before and after; median, smallest and largest over the steps.",
        "",
        "Passes over the layers: the policy's forward and backward, the reference's forward. Over "
        "response tokens × vocabulary: matrix products, and element-wise operations. A step is "
        "made of products, element-wise work on the vocabulary and the rest of the layers; a "
        "ratio is explained if it is at most that of the part that grows most.",
        "",
        "| method | steps | seconds per step | ratio to DPO | explained | policy | reference "
        "| vocabulary | beyond DPO's step |",
        "|---|---:|---:|---:|---:|---|---|---|---|",
    ]
    above = []
    for cost in sorted(record.costs(), key=lambda one: median(one.ratios)):
        spread = f"[{min(cost.ratios):.2f}, {max(cost.ratios):.2f}]"
        why = explanation(BUILT_IN[cost.method])
        passes = facts["passes"][cost.method]
        lines.append(
            f"| {cost.method} | {len(cost.ratios)} | {cost.seconds:.3f} "
            f"| {median(cost.ratios):.2f} {spread} | {passes['explained']:.2f} "
            f"| {passes['policy']} + {passes['backward']} | {passes['reference']} "
            f"| {passes['products']:g}, {passes['sweeps']:g} | {why} |"
        )
        if median(cost.ratios) > passes["explained"] * (1 + NOISE):
            above.append(cost.method)
    if record.seconds:
        found = (
            f"above what their passes explain: {', '.join(above)}"
            if above
            else "no method is above what its passes explain"
        )
        lines += ["", f"Allowing {100 * NOISE:g} % for the machine, {found}."]
    for name, text in record.failures.items():
        lines += ["", f"{name} was not measured: {text}."]
    missing = [name for name in facts["methods"] if name not in {*record.seconds, *record.failures}]
    if missing:
        lines += ["", f"Not reached in the time: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def facts_of(options: argparse.Namespace, methods: Sequence[str], words: str) -> dict[str, Any]:
    """Return what a card says of a run."""
    machine = [f"{name} {value}" for name, value in hardware("cpu", None).items() if value]
    shape = _SHAPES[options.shape]
    keep_bytes = keep_bytes_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.methods {words}".strip(),
        "machine": "; ".join(machine),
        "load": "",
        "shape": shape.title,
        "pairs": shape.pairs,
        "steps": options.steps,
        "methods": list(methods),
        "passes": {name: facts_of_passes(BUILT_IN[name], shape, keep_bytes) for name in ON_PAIRS},
        "versions": library_versions(),
    }


def read_record(file: Path, facts: dict[str, Any]) -> Record:
    """Return what a card's JSON has measured; put its command, load and methods before a run's.

    Args:
        file: the card's JSON.
        facts: of the run that goes on with it.

    Raises:
        UserError: there is no such card, or it is of another shape or number of steps.
    """
    try:
        data = json.loads(file.read_text())
        record = Record(**data["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file.name} is no card that can be resumed; leave out --resume to start one."
        ) from error
    for name in ("shape", "pairs", "steps", "machine"):
        if data[name] != facts[name]:
            raise UserError(
                f"{file.name} was measured with {name} {data[name]}, not {facts[name]}; choose "
                "another --name, or leave out --resume."
            )
    commands = [*data["command"].splitlines(), facts["command"]]
    facts["command"] = "\n".join(dict.fromkeys(commands))
    facts["load"] = f"{data['load']}, then "
    facts["methods"] = list(dict.fromkeys([*data["methods"], *facts["methods"]]))
    return record


_SHAPES = {shape.name: shape for shape in NARROW}


def main(arguments: Sequence[str] | None = None, folder: Path = CARDS) -> int:
    """Measure and print; write a card with --name.

    Args:
        arguments: the command line.
        folder: of the cards.

    Raises:
        UserError: an unknown method, or a card that cannot be resumed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(_SHAPES), default="hh")
    parser.add_argument("--methods", help="comma-separated; default: all")
    parser.add_argument("--runs", type=int, default=1, help="of each method, at most")
    parser.add_argument("--steps", type=int, default=5, help="measured steps of a run")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all runs; default: 15")
    parser.add_argument("--name", help="of the card that is written to benchmarks/cards")
    parser.add_argument("--resume", action="store_true", help="go on with the card of that name")
    options = parser.parse_args(arguments)
    names = options.methods.split(",") if options.methods else list(ON_PAIRS)
    for name in names:
        if name not in ON_PAIRS:
            raise UserError(
                f"'{name}' is no method that trains on pairs; choose from {', '.join(ON_PAIRS)}."
            )
    if options.resume and not options.name:
        raise UserError("--resume needs --name, the card to go on with.")
    given = sys.argv[1:] if arguments is None else arguments
    facts = facts_of(options, names, " ".join(given))
    files = [folder / f"{options.name}.{kind}" for kind in ("md", "json")]
    record = read_record(files[1], facts) if options.resume else Record()
    load, earlier = os.getloadavg()[0], facts["load"]

    def save(record: Record) -> None:
        now = f"{load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end"
        facts["load"] = earlier + now
        done = sum(map(len, record.seconds.values()))
        print(f"{done} steps, {len(record.failures)} failures", file=sys.stderr, flush=True)
        if options.name:
            files[0].write_text(markdown(facts, record))
            data = {**facts, "record": asdict(record)}
            files[1].write_text(json.dumps(data, indent=1) + "\n")

    try:
        measure(
            names,
            _SHAPES[options.shape],
            options.runs,
            options.steps,
            record=record,
            seconds=60 * options.minutes,
            save=save,
        )
    except KeyboardInterrupt:
        print("\nStopped; --resume goes on with the card.", file=sys.stderr)
        return 130
    save(record)
    print(markdown(facts, record))
    return 1 if record.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
