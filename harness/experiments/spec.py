"""What an experiment says about itself: rows, columns, layout; nothing about how it is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowSpec:
    """One line of a table."""

    method: str
    label: str


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a table."""

    id: str
    label: str
    higher_is_better: bool = True


@dataclass(frozen=True)
class TableSpec:
    """One table of the paper."""

    id: str
    title: str
    rows: tuple[RowSpec, ...]
    columns: tuple[ColumnSpec, ...]
    average: str
    """The column that is the mean of the others."""
    supplement: tuple[ColumnSpec, ...]
    """Columns of the second table: what alignment gained."""
    baseline: str
    """The method that the others are tested against."""
    reference: str
    """The row that says what was there before preference optimization."""
