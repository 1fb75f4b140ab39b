"""A benchmark's card: hardware, versions, date, command, every figure, and a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Measurement

LIBRARIES = ("torch", "transformers", "trl", "accelerate", "liger-kernel")
COLOURS = {
    "ours": "#0072B2",
    "ours-cached": "#56B4E9",
    "ours-single": "#CC79A7",
    "ours-sdpa": "#009E73",
    "plain": "#999999",
    "trl": "#D55E00",
    "trl-precompute": "#E69F00",
    "trl-liger": "#F0E442",
}
NAMES = {
    "ours": "sparsepo",
    "ours-cached": "sparsepo, reference cached",
    "ours-single": "sparsepo, one pair per row",
    "ours-sdpa": "sparsepo, SDPA",
    "plain": "reference implementation",
    "trl": "TRL",
    "trl-precompute": "TRL, reference precomputed",
    "trl-liger": "TRL with Liger's kernels",
}


@dataclass(frozen=True)
class Curve:
    """Measurements along one quantity."""

    quantity: str
    values: list[int]
    measurements: list[Measurement]


@dataclass(frozen=True)
class Card:
    """The results of a run of benchmarks.training."""

    date: str
    command: str
    hardware: dict[str, str]
    versions: dict[str, str]
    dtype: str
    matmul_flops: float
    peer: str
    measurements: list[Measurement]
    real: list[Measurement] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    note: str = ""
    """A note about the run, such as that it was stopped."""


def name_of(system: str) -> str:
    """Return a system's name in tables and pictures."""
    kind, _, method = system.partition(":")
    return f"{NAMES[kind]}, {method}"


def library_versions() -> dict[str, str]:
    """Return the versions of the relevant libraries."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str, threads: int | None) -> dict[str, str]:
    """Return a description of the machine."""
    import torch

    cpu = platform.processor() or platform.machine()
    memory = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
        kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
        memory = f"{kilobytes / 2**20:.0f} GiB"
    except OSError:
        pass
    found = {
        "CPU": cpu,
        "memory": memory,
        "threads": str(threads or torch.get_num_threads()),
        "allocator": _allocator(),
    }
    if device == "cuda":
        found["GPU"] = torch.cuda.get_device_name()
    return found


def _allocator() -> str:
    """Return what allocates a CPU's memory: a preloaded library, or the C library as it is set."""
    preloaded = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    if preloaded:
        return ", ".join(Path(library).name for library in preloaded)
    tunables = os.environ.get("GLIBC_TUNABLES")
    return " ".join(platform.libc_ver()) + (f" with {tunables}" if tunables else "")


def write_card(card: Card, folder: Path, name: str) -> list[Path]:
    """Write NAME.json, NAME.md and NAME.png; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.json"
    data.write_text(json.dumps(asdict(card), indent=1) + "\n")
    page, picture = folder / f"{name}.md", folder / f"{name}.png"
    draw(card, picture)
    page.write_text(markdown(card, picture.name))
    return [page, data, picture]


def read_card(file: Path) -> Card:
    """Return the card in a JSON file, which can be redrawn without a run."""
    from benchmarks.shapes import Shape

    def measured(data: dict[str, Any]) -> Measurement:
        return Measurement(**{**data, "shape": Shape(**data["shape"])})

    data = json.loads(file.read_text())
    data["measurements"] = [measured(entry) for entry in data["measurements"]]
    data["real"] = [measured(entry) for entry in data["real"]]
    data["curves"] = [
        Curve(c["quantity"], c["values"], [measured(entry) for entry in c["measurements"]])
        for c in data["curves"]
    ]
    return Card(**data)


def markdown(card: Card, picture: str) -> str:
    """Return the card as a page."""
    facts = {**card.hardware, **card.versions}
    lines = [
        f"# Training benchmark, {card.date}",
        "",
        "```",
        card.command,
        "```",
        "",
        "; ".join(f"{key} {value}" for key, value in facts.items() if value) + f"; {card.dtype}; "
        f"measured matmul rate {card.matmul_flops / 1e9:.0f} GFLOP/s.",
        *(["", card.note] if card.note else []),
        "",
        f"![times and memory]({picture})",
        "",
        "One process per system; steps are taken in turn, each round on the same pairs. Time: "
        "median seconds of a whole step, including data loading and optimizer. Ratio: median over "
        "rounds of the step's time over the peer's in the same round [smallest, largest]. Memory: "
        + ("peak allocated on the GPU" if "GPU" in card.hardware else "peak resident memory minus")
        + ("" if "GPU" in card.hardware else " that of the process with only its libraries loaded")
        + ". Utilisation: the minimum floating-point operations of an exact method, over time and "
        "matmul rate (benchmarks/shapes.py lists the operations counted).",
        "",
    ]
    for measurement in card.measurements:
        lines += measurement_table(card, measurement)
    if card.real:
        lines += ["# Real length variation", ""]
        for measurement in card.real:
            lines += measurement_table(card, measurement, fixed=False)
    for curve in card.curves:
        lines += _curve_table(curve) if curve.values else []
    return "\n".join(lines).rstrip() + "\n"


def measurement_table(card: Card, measurement: Measurement, fixed: bool = True) -> list[str]:
    """Return a measurement as a section with a table.

    Args:
        card: its peer, and its matmul rate.
        measurement: what was measured.
        fixed: whether all pairs have the shape's lengths, so that tokens and utilisation are known.
    """
    shape = measurement.shape
    size = f"{shape.architecture}, width {shape.width}, {shape.layers} layers, vocabulary "
    size += f"{shape.vocabulary}, {shape.pairs} pairs a step, {_rounds(measurement)} rounds"
    plain = next((s for s in measurement.seconds if s.startswith("plain:")), None)
    header = ["system", "s/step", "pairs/s"]
    header += ["tokens/s", "utilisation"] if fixed else []
    header += ["MB", f"time / {name_of(card.peer)}", "memory"]
    header += [f"time / {name_of(plain)}", "memory"] if plain else []
    lines = [f"## {measurement.label}", "", size + ".", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for system in measurement.seconds:
        seconds = measurement.median(system)
        row = [name_of(system), f"{seconds:.2f}", f"{shape.pairs / seconds:.2f}"]
        if fixed:
            tokens = shape.pairs * (shape.prompt + 2 * shape.response)
            used = shape.useful_flops() / seconds / card.matmul_flops
            row += [f"{tokens / seconds:.0f}", f"{100 * used:.0f} %"]
        row.append(f"{measurement.peak_bytes[system] / 1e6:.0f}")
        for peer in (card.peer, plain):
            if peer is not None:
                row += ratios(measurement, system, peer)
        lines.append("| " + " | ".join(row) + " |")
    if measurement.sparsity:
        zeros = ", ".join(f"{name_of(s)} {v:.0f} %" for s, v in measurement.sparsity.items())
        lines += ["", f"Zeros in the learned masks (tokens without a backward pass): {zeros}."]
    return [*lines, ""]


def spread(found: Sequence[float]) -> str:
    """Return the median of ratios, with the smallest and the largest, as a card shows them."""
    return f"{median(found):.2f} [{min(found):.2f}, {max(found):.2f}]"


def ratios(measurement: Measurement, system: str, peer: str) -> list[str]:
    """Return a system's time and memory relative to a peer's; empty texts for the peer itself."""
    if peer not in measurement.seconds or system == peer:
        return ["", ""]
    middle, low, high = measurement.time_ratio(system, peer)
    return [
        f"{middle:.2f} [{low:.2f}, {high:.2f}]",
        f"{measurement.memory_ratio(system, peer):.2f}",
    ]


def _rounds(measurement: Measurement) -> int:
    return len(next(iter(measurement.seconds.values())))


def _curve_table(curve: Curve) -> list[str]:
    systems = list(curve.measurements[0].seconds)
    header = [curve.quantity, *(f"{name_of(system)}: s, MB" for system in systems)]
    lines = [f"## Growth with {curve.quantity}", "", "| " + " | ".join(header) + " |"]
    lines.append("|" + "---|" * len(header))
    for value, found in zip(curve.values, curve.measurements, strict=True):
        cells = [f"{found.median(s):.2f}, {found.peak_bytes[s] / 1e6:.0f}" for s in systems]
        lines.append("| " + " | ".join([str(value), *cells]) + " |")
    return [*lines, ""]


def draw(card: Card, file: Path) -> None:
    """Draw time and memory of all shapes, with the growth curves below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = [curve for curve in card.curves if curve.values]
    shown = [*card.measurements, *card.real]
    columns = max(2, len(curves))
    rows = (1 if shown else 0) + (2 if curves else 0)
    figure = plt.figure(figsize=(5.2 * columns, 4.2 * max(1, rows)), layout="constrained")
    grid = figure.add_gridspec(max(1, rows), 2 * columns)
    if shown:
        halves = (slice(columns), slice(columns, None))
        times, peaks = (figure.add_subplot(grid[0, half]) for half in halves)
        _bars(times, shown, "seconds per step", lambda m, s: m.median(s))
        _bars(peaks, shown, "peak memory, GB", lambda m, s: m.peak_bytes[s] / 1e9)
    for column, curve in enumerate(curves):
        place = slice(2 * column, 2 * column + 2)
        time, memory = (figure.add_subplot(grid[row, place]) for row in (rows - 2, rows - 1))
        _lines(time, curve, "seconds per step", lambda m, s: m.median(s))
        _lines(memory, curve, "peak memory, GB", lambda m, s: m.peak_bytes[s] / 1e9)
    if figure.axes:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _bars(axes: Any, measurements: Sequence[Measurement], label: str, value: Any) -> None:
    systems = list(dict.fromkeys(s for m in measurements for s in m.seconds))
    width = 0.8 / max(1, len(systems))
    for number, system in enumerate(systems):
        places = [p for p, m in enumerate(measurements) if system in m.seconds]
        heights = [value(measurements[p], system) for p in places]
        left = [p + (number - (len(systems) - 1) / 2) * width for p in places]
        style = _style(system)
        axes.bar(left, heights, width * 0.9, label=name_of(system), **style)
    axes.set_xticks(range(len(measurements)), [m.label.split(", at")[0] for m in measurements])
    for name in axes.get_xticklabels():
        name.set(rotation=20, ha="right", rotation_mode="anchor")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def _style(system: str) -> Mapping[str, Any]:
    kind, _, method = system.partition(":")
    hatch = {"sparsepo-common": "", "dpo": "//", "tdpo1": ".."}.get(method, "xx")
    return {"color": COLOURS[kind], "hatch": hatch, "edgecolor": "white", "linewidth": 0}


def _lines(axes: Any, curve: Curve, label: str, value: Any) -> None:
    for system in curve.measurements[0].seconds:
        heights = [value(found, system) for found in curve.measurements]
        colour = COLOURS[system.partition(":")[0]]
        axes.plot(curve.values, heights, "o-", color=colour, label=name_of(system))
    axes.set_xlabel(curve.quantity)
    axes.set_ylabel(label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(curve.values, [f"{value}" for value in curve.values])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
