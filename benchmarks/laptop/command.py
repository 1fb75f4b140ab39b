"""`python -m benchmarks.laptop`: the two real models of a laptop, trained with LoRA and sampled.

Three comparisons, on SmolLM2 135M and Gemma 3 270M, at the lengths of HH and TL;DR: a step and its
peak of memory against TRL's with the same adapters, a step against the matrix products that it
consists of, and the generation engine against `model.generate`. Models come from --smollm2 and
--gemma (a folder or GGUF file); without them, random weights of the same shape take their place,
which the card says. Needs `pip install -e .[benchmark]`. --name writes a card to benchmarks/cards/.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.card import hardware, library_versions
from benchmarks.laptop.found import Found
from benchmarks.laptop.models import LENGTHS, MODELS, write_laptop_model
from benchmarks.laptop.page import page
from benchmarks.laptop.samples import measure_samples
from benchmarks.laptop.steps import measure_steps
from benchmarks.measure import require_peer
from benchmarks.process import BenchmarkError
from benchmarks.progress import say
from sparsepo.errors import UserError

CARDS = Path(__file__).parents[1] / "cards"
SYSTEMS = ("ours:dpo", "ours:sparsepo-common", "trl:dpo")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laptop", description=__doc__)
    for model in MODELS:
        parser.add_argument(f"--{model.name}", metavar="MODEL", help="folder or GGUF file")
    names = ",".join(model.name for model in MODELS)
    parser.add_argument("--models", default=names, help=f"of {names}")
    parser.add_argument("--shapes", default=",".join(LENGTHS), help=f"of {','.join(LENGTHS)}")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="systems to measure")
    parser.add_argument("--parts", default="steps,samples", help="of steps,samples")
    parser.add_argument("--rounds", type=int, default=3, help="measured steps per system")
    parser.add_argument("--pairs", type=int, help="pairs per step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads per process")
    parser.add_argument("--name", help="of the card to write to benchmarks/cards")
    parser.add_argument("--out", type=Path, default=CARDS, help="folder for the card")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, 2 for an error that the user can fix."""
    arguments = build_parser().parse_args(argv)
    words = [word if "/" not in word else Path(word).name for word in (argv or sys.argv[1:])]
    command = shlex.join(["python", "-m", "benchmarks.laptop", *words])
    found, before, failed = Found(), os.getloadavg()[0], False
    try:
        run(arguments, found)
    except (BenchmarkError, UserError) as error:
        print(f"\nError: {error}", file=sys.stderr)
        if not found.steps and not found.samples:
            return 2
        # What was measured before is not lost.
        failed, command = True, command + "  # stopped by an error"
    except KeyboardInterrupt:
        command += "  # stopped early"
    card = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "hardware": hardware("cpu", arguments.threads),
        "versions": library_versions(),
        "load": [before, os.getloadavg()[0]],
        **asdict(found),
    }
    print(page(card, found))
    if arguments.name:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{arguments.name}.json").write_text(json.dumps(card, indent=1) + "\n")
        (arguments.out / f"{arguments.name}.md").write_text(page(card, found))
    return 2 if failed else 0


def run(arguments: argparse.Namespace, found: Found) -> None:
    """Measure what the command line asks for.

    Args:
        arguments: the parsed command line.
        found: filled as the measurements end.

    Raises:
        BenchmarkError: an unknown name, or a system that cannot be measured.
        UserError: a model cannot be loaded.
    """
    models = {model.name: model for model in MODELS}
    systems = arguments.systems.split(",")
    parts = arguments.parts.split(",")
    for given, known in (
        (arguments.models.split(","), models),
        (arguments.shapes.split(","), LENGTHS),
        (parts, ("steps", "samples")),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise BenchmarkError(f"Unknown name '{unknown[0]}'; choose from {', '.join(known)}.")
    if "steps" in parts:
        require_peer(systems)
    for name in arguments.models.split(","):
        model = models[name]
        if arguments.pairs:
            model = replace(model, pairs=arguments.pairs)
        source = getattr(arguments, name)
        found.weights[model.title] = "its own" if source else "random"
        with tempfile.TemporaryDirectory() as folder:
            say(f"{model.title}: weights")
            write_laptop_model(model, source, Path(folder))
            for lengths in arguments.shapes.split(",") if "steps" in parts else ():
                measure_steps(
                    model,
                    lengths,
                    systems,
                    Path(folder),
                    found,
                    rounds=arguments.rounds,
                    threads=arguments.threads,
                )
            if "samples" in parts:
                measure_samples(
                    model,
                    Path(folder),
                    found,
                    rounds=arguments.rounds,
                    threads=arguments.threads,
                )
    say("")
