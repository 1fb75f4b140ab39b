"""What an experiment says about itself: rows, columns, layout; nothing about how it is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowSpec:
    """One method that is shown."""

    method: str
    label: str


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a table."""

    id: str
    label: str
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table or figure of the paper."""

    id: str
    """"table1", "figure2"; also its folder's name."""
    title: str
    domain: str
    """The folder of harness.domains that knows how to run it."""
    rows: tuple[RowSpec, ...]


@dataclass(frozen=True, kw_only=True)
class TableSpec(Experiment):
    """One table of the paper."""

    columns: tuple[ColumnSpec, ...]
    average: str | None = None
    """The column that is the mean of the others."""
    supplement: tuple[ColumnSpec, ...] = ()
    """Columns of the second table."""
    baseline: str
    """The method that the others are tested against."""
    reference: str
    """The row that says what was there before preference optimization."""


@dataclass(frozen=True, kw_only=True)
class FigureSpec(Experiment):
    """One figure of the paper; its domain draws it."""
