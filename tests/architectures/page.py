"""docs/architectures.md, written from the recorded outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"

INTRODUCTION = """\
# Architectures

Any causal language model in transformers can be trained. Before the first step, a few pairs go
through the model's own forward pass, and training must compute the same values; see
[training](train.md). Nothing depends on an architecture's name: heads, blocks, norms and activation
points are found by running the model on a few tokens, and
`python -m sparsepo inspect --points MODEL` prints them.

This table was recorded with transformers {version} on models of two layers and width 32 with
enlarged random weights. Each was trained for one step, with summed log-probabilities equal to the
model's own forward pass within a relative error of 1e-5.

- **packed**: prompts are computed once and several pairs share a row.
- **plain**: the model cannot run packed rows, so each response gets a separate row. The numbers are
  the same, but time and memory are not.
- **alone**: as plain, and each response in its own forward pass, because padding changes what the
  model computes.
- `mask_families=…`: mapo cannot read every family of activations in this architecture and reports
  this; it trains with the families listed.
- no: refused, with the sentence listed below the table.

"""

ENDING = """
Every run of the test suite repeats this for the architectures in bold.
`python -m tests.architectures.record` repeats it for all of them and writes this page.
"""

HEADER = "| architecture | dpo, tdpo1 | sparsepo-common, -independent | mapo |\n|---|---|---|---|\n"


def page(found: Mapping[str, Mapping[str, str]], tested: tuple[str, ...], version: str) -> str:
    """Return the page.

    Args:
        found: architecture → method → outcome.
        tested: architectures that the test suite tries.
        version: of transformers.
    """
    lines, sentences = [], {}
    for name, by_method in sorted(found.items()):
        columns = (("dpo", "tdpo1"), ("sparsepo-common", "sparsepo-independent"), ("mapo",))
        cells = []
        for methods in columns:
            outcomes = list(dict.fromkeys(by_method[method] for method in methods))
            cells.append(", ".join(map(cell, outcomes)))
            sentences.update({outcome: name for outcome in outcomes if cell(outcome) == "no"})
        title = f"**{name}**" if name in tested else name
        lines.append(f"| {title} | {' | '.join(cells)} |\n")
    refused = "".join(f"- {name}: {text}\n" for text, name in sentences.items())
    table = HEADER + "".join(lines)
    return INTRODUCTION.format(version=version) + table + f"\n{refused}" + ENDING


def cell(outcome: str) -> str:
    """Return an outcome as a cell of the table."""
    if outcome in ("packed", "plain", "alone"):
        return outcome
    families = re.search(r"set (mask_families=[\w+]+)", outcome)
    return f"`{families[1]}`" if families else "no"
