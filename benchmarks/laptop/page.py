"""The laptop benchmark's card as a page."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.card import name_of, ratios, spread
from benchmarks.laptop.found import Found, Samples, Shares
from benchmarks.laptop.samples import BATCH
from benchmarks.laptop.steps import RANK
from benchmarks.measure import Measurement

PEER = "trl:dpo"


def page(card: dict[str, Any], found: Found) -> str:
    """Return the card as a page."""
    machine = {**card["hardware"], **card["versions"]}
    facts = "; ".join(f"{name} {value}" for name, value in machine.items())
    weights = ", ".join(f"{title}: {source}" for title, source in found.weights.items())
    lines = [
        f"# Laptop benchmark, {card['date']}",
        "",
        "```",
        str(card["command"]),
        "```",
        "",
        f"{facts}; float32; load average {card['load'][0]:.1f} at the start and "
        f"{card['load'][1]:.1f} at the end. Weights: {weights}.",
        "",
    ]
    if found.steps:
        lines += [
            "## Steps",
            "",
            f"LoRA of rank {RANK} on all seven projections of each layer, random words of fixed "
            "lengths. One process per system; steps are taken in turn, each round on the same "
            "pairs. Time: median seconds of a whole step. Ratio: median over rounds [smallest, "
            "largest]. Memory: peak resident memory minus that of the process with only its "
            "libraries loaded.",
            "",
            f"| model and lengths | pairs | system | s/step | time / {name_of(PEER)} | MB "
            "| memory |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [row for measured in found.steps for row in _step_rows(measured)]
        lines.append("")
    if found.shares:
        lines += [
            "## Matrix products alone",
            "",
            "The products of one step (what a frozen weight does not need and what would be "
            "recomputed is not among them), recorded and computed again with nothing between "
            "them, in turn with whole steps. Share: median over rounds of their time over the "
            "step's.",
            "",
            "| model and lengths | system | s/step | projections and head, s | share "
            "| with attention, s | share | GFLOP/s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_share_row(shares) for shares in found.shares]
        lines.append("")
    if found.samples:
        lines += [
            "## Samples",
            "",
            f"The generation engine and `model.generate`, both in batches of {BATCH} of the same "
            "prompts, in turn, at temperature 1; no response ends early. Response tokens per "
            "second, median over rounds; ratio: median of the rounds' ratios [smallest, largest].",
            "",
            "| model | prompts | engine | generate | ratio |",
            "|---|---|---|---|---|",
        ]
        lines += [_sample_row(samples) for samples in found.samples if samples.ours]
        lines.append("")
    return "\n".join(lines)


def _step_rows(measured: Measurement) -> list[str]:
    rows = []
    for system in measured.seconds:
        ratio, memory = ratios(measured, system, PEER)
        rows.append(
            f"| {measured.label} | {measured.shape.pairs} | {name_of(system)} "
            f"| {measured.median(system):.2f} | {ratio} "
            f"| {measured.peak_bytes[system] / 1e6:,.0f} | {memory} |"
        )
    return rows


def _share_row(shares: Shares) -> str:
    cells = [shares.label, name_of(shares.system), f"{statistics.median(shares.step):.2f}"]
    for seconds in (shares.products, shares.with_attention):
        cells += [f"{statistics.median(seconds):.2f}", f"{100 * shares.share(seconds):.0f} %"]
    rate = shares.flops[0] / statistics.median(shares.products) / 1e9
    return f"| {' | '.join([*cells, f'{rate:.0f}'])} |"


def _sample_row(samples: Samples) -> str:
    return (
        f"| {samples.model} | {samples.title} | {statistics.median(samples.ours):,.0f} "
        f"| {statistics.median(samples.theirs):,.0f} | {spread(samples.ratios)} |"
    )
