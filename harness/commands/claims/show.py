"""The claims as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.commands.claims.evaluate import CONTRADICTED, NOT_RUN, SUPPORTED, UNDECIDED

_STYLES = {SUPPORTED: "green", CONTRADICTED: "red", UNDECIDED: "", NOT_RUN: "dim"}


def show_claims(found: Mapping[str, Any], console: Console) -> None:
    """Print all claims, then the commands that make what is missing, and the notes.

    Args:
        found: what `claims_json` returns.
        console: where to.
    """
    table = Table(title=f"The paper's claims, {found['profile']} profile", title_justify="left")
    for name in ("claim", "where"):
        table.add_column(name, no_wrap=True)
    table.add_column("what is claimed", ratio=3)
    table.add_column("verdict", no_wrap=True)
    table.add_column("estimate [95 %]", ratio=2)
    for name in ("p (Holm)", "chains", "detectable"):
        table.add_column(name, justify="right", no_wrap=True)
    for claim in found["claims"]:
        table.add_row(
            claim["id"],
            f"{claim['section']}, {claim['where']}",
            Text(claim["text"]),
            Text(claim["verdict"], style=_STYLES[claim["verdict"]]),
            Text(_estimate(claim)),
            _number(claim["p_holm"], 3),
            "–" if claim["n"] is None else str(claim["n"]),
            _number(claim["detectable"], 2),
        )
    console.print(table)
    console.print(Text(", ".join(f"{n} {verdict}" for verdict, n in found["counts"].items())))
    commands = list(
        dict.fromkeys(
            command
            for claim in found["claims"]
            if claim["verdict"] == NOT_RUN
            for command in claim["command"].split(" && ")
        )
    )
    if commands:
        console.print("Not run yet; these commands make what is missing:")
        for command in commands:
            console.print(Text(f"  {command}"))
    for one in found["left_out"]:
        console.print(Text(f"{one['name']} is left out: {one['reason']}"))
    for note in found["notes"]:
        console.print(Text(note))


def _estimate(claim: Mapping[str, Any]) -> str:
    if claim["of"] is None:
        return "" if claim["verdict"] == NOT_RUN else str(claim["reason"])
    low, high = claim["ci95"]
    numbers = f"{claim['estimate']:.2f} [{low:.2f}, {high:.2f}]".replace("-", "−")
    return f"{claim['of']}: {numbers}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
