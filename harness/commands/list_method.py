"""`harness list --method NAME`: what a method is, and its hyper-parameters."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.domains.common.stages import not_provided
from sparsepo.methods.formula import formula
from sparsepo.methods.hyper_parameters import declared
from sparsepo.registry import method_class, method_origin

WIDTH = 100


def method_text(name: str) -> str:
    """Return a method's formula, hyper-parameters and what it reads, as text.

    Args:
        name: a registered method.

    Raises:
        UserError: there is no such method.
    """
    cls = method_class(name)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("hyper-parameter", "default", "values", "meaning", "source"):
        table.add_column(heading, overflow="fold")
    for item, about in declared(cls):
        told = ("", "", "") if about is None else (about.describe(), about.help, about.source)
        # Text, because [code] would be read as markup.
        table.add_row(*map(Text, (item.name, repr(item.default), *told)))
    stream = io.StringIO()
    console = Console(file=stream, width=WIDTH, highlight=False)
    console.print(f"{cls.title} ({method_origin(name)}); {cls.source}", markup=False)
    console.print(" ".join(str(formula(cls) or "").split()), markup=False)
    reads = ["the policy's log-probabilities", *cls.needs.in_words()]
    console.print(f"reads: {'; '.join(reads)}", markup=False)
    if (lacks := not_provided(cls)) is not None:
        console.print(f"{lacks}.", markup=False)
    console.print(table if table.rows else "no hyper-parameters")
    return stream.getvalue().rstrip()
