"""`python -m benchmarks.training`: sparsepo, the reference implementation and TRL in one run.

Needs `pip install -e .[benchmark]`. Writes a card to benchmarks/cards/.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.card import Card, Curve, hardware, library_versions, read_card, write_card
from benchmarks.measure import (
    WARM_UP,
    Measurement,
    matmul_flops,
    measure,
    real_pairs,
    require_peer,
)
from benchmarks.process import BenchmarkError
from benchmarks.progress import say
from benchmarks.shapes import FULL, NARROW, Shape
from sparsepo.errors import UserError

CARDS = Path(__file__).parent / "cards"
SYSTEMS = (
    "ours:sparsepo-common",
    "ours:tdpo1",
    "ours:dpo",
    "ours-cached:dpo",
    "plain:sparsepo-common",
    "trl:dpo",
    "trl-precompute:dpo",
)
REAL_SYSTEMS = ("ours:sparsepo-common", "ours-single:sparsepo-common", "ours:dpo", "trl:dpo")
CURVE_SYSTEMS = ("ours:sparsepo-common", "plain:sparsepo-common", "trl:dpo")
PEER = "trl:dpo"
GROWTH = {
    "response tokens": ("response", (16, 32, 64, 128, 256)),
    "vocabulary": ("vocabulary", (8192, 16384, 32768, 65536, 131072)),
    "pairs per step": ("pairs", (1, 2, 4, 8)),
}
"""Quantity → (field of a shape, its values); all other fields are those of the base shape."""

STOPPED = "The run was stopped early; missing values were not measured."

REAL_PAIRS = 8
"""Pairs per step with real, different lengths: enough to fill rows."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    names = [shape.name for shape in NARROW]
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )
    parser.add_argument("--shapes", default=",".join(names), help=f"of {', '.join(names)}, or none")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="systems to measure")
    parser.add_argument("--rounds", type=int, default=7, help="measured steps per system")
    parser.add_argument("--threads", type=int, help="CPU threads per process")
    parser.add_argument("--pairs", type=int, help="pairs per step")
    parser.add_argument("--curves", action="store_true", help="also measure growth curves")
    parser.add_argument(
        "--real",
        action="append",
        default=[],
        metavar="SHAPE=FILE",
        help="preference pairs whose lengths are used with a shape's model",
    )
    parser.add_argument("--name", help="the card's name; default: date and device")
    parser.add_argument("--out", type=Path, default=CARDS, help="folder for the card")
    parser.add_argument("--redraw", type=Path, metavar="CARD.json", help="redraw an existing card")
    return parser


def run(arguments: argparse.Namespace, command: str, save: Callable[[Card], None]) -> None:
    """Run the requested measurements.

    Args:
        arguments: the parsed command line.
        command: the command line as the card shows it.
        save: called with the card after each measurement; an interruption loses at most one.

    Raises:
        BenchmarkError: an unknown shape, or a system that cannot be measured.
    """
    import torch

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = "bfloat16" if device == "cuda" else "float32"
    shapes = {shape.name: shape for shape in (FULL if device == "cuda" else NARROW)}
    wanted = [] if arguments.shapes == "none" else arguments.shapes.split(",")
    real = [item.partition("=")[::2] for item in arguments.real]
    unknown = [name for name in (*wanted, *(name for name, _ in real)) if name not in shapes]
    if unknown:
        raise BenchmarkError(f"Unknown shape '{unknown[0]}'; choose from {', '.join(shapes)}.")
    systems = arguments.systems.split(",")
    used = [*(systems if wanted else ()), *(REAL_SYSTEMS if real else ())]
    used += CURVE_SYSTEMS if arguments.curves else ()
    require_peer(used)
    if arguments.pairs:
        shapes = {n: replace(shape, pairs=arguments.pairs) for n, shape in shapes.items()}
    common = {
        "device": device,
        "dtype": dtype,
        "threads": arguments.threads,
        "progress": say,
    }
    card = Card(
        date=datetime.date.today().isoformat(),
        command=command,
        hardware=hardware(device, arguments.threads),
        versions=library_versions(),
        dtype=dtype,
        matmul_flops=matmul_flops(device, dtype, arguments.threads),
        peer=PEER,
        measurements=[],
    )
    for name in wanted:
        card.measurements.append(measure(shapes[name], systems, arguments.rounds, **common))
        save(card)
    for name, file in real:
        card.real.append(_real(shapes[name], file, arguments.rounds, common))
        save(card)
    for quantity, (attribute, values) in GROWTH.items() if arguments.curves else ():
        curve = Curve(quantity, [], [])
        card.curves.append(curve)
        for value in values:
            shape = replace(_base(shapes), **{attribute: value})  # type: ignore[arg-type]
            label, rounds = f"{quantity} {value}", max(1, arguments.rounds // 2)
            curve.measurements.append(measure(shape, CURVE_SYSTEMS, rounds, label=label, **common))
            curve.values.append(value)
            save(card)
    say("")


def _base(shapes: dict[str, Shape]) -> Shape:
    return replace(shapes["imdb"], prompt=64, response=64, vocabulary=32768)


def _real(shape: Shape, file: str, rounds: int, common: dict[str, object]) -> Measurement:
    from sparsepo.data.pairs import read_pairs

    found = read_pairs(file).pairs
    rows = [
        (pair.prompt, pair.chosen, pair.rejected)
        for pair in found
        if isinstance(pair.prompt, str)
        and isinstance(pair.chosen, str)
        and isinstance(pair.rejected, str)
    ]
    shape = replace(shape, pairs=REAL_PAIRS)
    return measure(
        shape,
        REAL_SYSTEMS,
        rounds,
        label=f"{shape.name}, real lengths",
        pairs=real_pairs(shape, rows, (rounds + WARM_UP) * REAL_PAIRS),
        **common,  # type: ignore[arg-type]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, 2 for an error that the user can fix."""
    arguments = build_parser().parse_args(argv)
    # The card shows only the names of files, not their location on this machine.
    words = [word if "/" not in word else _short(word) for word in (argv or sys.argv[1:])]
    command = shlex.join(["python", "-m", "benchmarks.training", *words])
    files: list[Path] = []
    cards: list[Card] = []

    def save(card: Card) -> None:
        cards[:] = [card]
        device = "cuda" if "GPU" in card.hardware else "cpu"
        files[:] = write_card(card, arguments.out, arguments.name or f"{card.date}-{device}")

    try:
        if arguments.redraw:
            card = read_card(arguments.redraw)
            files = write_card(card, arguments.redraw.parent, arguments.redraw.stem)
        else:
            run(arguments, command, save)
    except (BenchmarkError, UserError) as error:
        print(f"\nError: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        for card in tuple(cards):
            save(replace(card, note=STOPPED))
        print("\nStopped; the card contains the measurements so far.", file=sys.stderr)
        return 130
    for file in files:
        print(file)
    return 0


def _short(word: str) -> str:
    option, equals, path = word.rpartition("=")
    return f"{option}{equals}{Path(path).name}"


if __name__ == "__main__":
    sys.exit(main())
