"""The lines of a run, and its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from benchmarks.measure import Measurement

Verdict = Literal["passed", "failed", "measured", "not run"]

PEER = "trl:dpo"


@dataclass(frozen=True)
class Line:
    """What became of one check or of one system."""

    part: str
    title: str
    verdict: Verdict
    text: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """A run of benchmarks.gpu."""

    date: str
    command: str
    facts: dict[str, str]
    """Hardware and versions."""
    dtype: str
    reduced: bool = False
    """Whether sizes were reduced to try the code."""
    lines: list[Line] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    seconds: float = 0.0
    """Of the whole run."""

    @property
    def failed(self) -> list[Line]:
        """The lines of checks that failed."""
        return [line for line in self.lines if line.verdict == "failed"]


def write_report(report: Report, folder: Path, name: str) -> list[Path]:
    """Write NAME.md and NAME.json; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / f"{name}.md", folder / f"{name}.json"
    page.write_text(markdown(report))
    data.write_text(json.dumps(asdict(report), indent=1) + "\n")
    return [page, data]


def summary(lines: Sequence[Line]) -> str:
    """Return how many lines have each verdict."""
    order: tuple[Verdict, ...] = ("passed", "failed", "measured", "not run")
    counts = {verdict: sum(line.verdict == verdict for line in lines) for verdict in order}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def markdown(report: Report) -> str:
    """Return the card as a page."""
    rate = next(
        (flops for line in report.lines if (flops := line.figures.get("matmul_flops"))), 0.0
    )
    facts = "; ".join(f"{name} {value}" for name, value in report.facts.items() if value)
    if rate:
        facts += f"; measured matmul rate {rate / 1e12:.0f} TFLOP/s in {report.dtype}"
    page = [
        f"# GPU card, {report.date}{', reduced sizes' if report.reduced else ''}",
        "",
        "```",
        report.command,
        "```",
        "",
        f"{facts}. {report.seconds:.0f} s in all: {summary(report.lines)}.",
        "",
        *(
            ["Sizes were reduced to try the code; the times say nothing.", ""]
            if report.reduced
            else []
        ),
        "| check | verdict | what was found | seconds |",
        "|---|---|---|---:|",
    ]
    for line in report.lines:
        text = line.text.replace("|", "\\|")
        verdict = f"**{line.verdict}**" if line.verdict == "failed" else line.verdict
        page.append(f"| {line.title} | {verdict} | {text} | {line.seconds:.0f} |")
    if report.measurements:
        memory = "allocated on the GPU" if "GPU" in report.facts else "resident"
        page += [
            "",
            "The systems of a shape take the same steps on the same pairs of random words, one "
            f"after another; random weights in {report.dtype}, no activation checkpointing. Time: "
            "median seconds of a whole step, including data loading and optimizer; ratio to the "
            "peer's step on the same pairs, median [smallest, largest]. Memory: peak "
            f"{memory} during the steps. Utilisation: the minimum floating-point operations of an "
            "exact method that trains the whole model, over time and matmul rate; with LoRA fewer "
            "are needed.",
            "",
        ]
        # Importing it takes seconds, which the processes of the checks have used by now.
        from benchmarks.card import Card, measurement_table

        card = Card(report.date, report.command, {}, {}, report.dtype, rate, PEER, [])
        for found in report.measurements:
            whole = rate > 0 and found.label.endswith("whole model")
            page += measurement_table(card, found, fixed=whole)
    return "\n".join(page).rstrip() + "\n"
