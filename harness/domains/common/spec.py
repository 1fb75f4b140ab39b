"""The description of an experiment: rows, columns and layout, but not how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Bounds = tuple[float | None, float | None]
"""Smallest and largest value that a column can have; None for no limit."""
UNBOUNDED: Bounds = (None, None)
PERCENT: Bounds = (0.0, 100.0)


@dataclass(frozen=True)
class RowSpec:
    """One row: a method, or a variant of it.

    Several rows may show the same method with different settings, so stages, results and
    comparisons are keyed by `id`.
    """

    id: str
    """Unique in its experiment; the method's name unless the row is a variant of it."""
    method: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values that override the profile's for this method, named as under ``methods``."""
    tuned: bool = False
    """Whether its free settings are chosen by trials; see `harness.domains.common.tuning`."""


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a table."""

    id: str
    label: str
    higher_is_better: bool | None = True
    """None if neither direction is better; then no value is marked as the best."""
    bounds: Bounds = UNBOUNDED
    """Range of the values; intervals are clipped to it."""


def percentage(id: str, label: str) -> ColumnSpec:
    """Return a column of percentages in which higher is better."""
    return ColumnSpec(id, label, bounds=PERCENT)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table or figure of the paper, or a check beyond it."""

    id: str
    """"table1", "figure2" for the paper's; a word, "noise", for a check beyond it. It is also the
    name of its folder."""
    title: str
    domain: str
    """Its folder in harness.domains."""
    rows: tuple[RowSpec, ...]
    optional: tuple[RowSpec, ...] = ()
    """Rows that are shown, before the others, only where `run --methods` names them."""
    tunable: bool = False
    """Whether `run --tune` can add tuned rows."""
    group: str | None = None
    """A name under which several domains' tables are run together, such as "winrate"."""
    varied: str | None = None
    """A hyper-parameter that the experiment varies, and that every row must therefore have."""
    judged: bool = False
    """Whether a judge that the user can choose compares responses."""
    one_chain: bool = False
    """Whether it shows runs that exist for one seed only, so that `run --seeds` says nothing."""
    untuned: tuple[str, ...] = ()
    """Ids of the rows that never have a tuned one, because nothing is optimized in them."""
    variant: str = ""
    """End of its folder's name, such as "-common", where it is a variant of a figure."""

    def __post_init__(self) -> None:
        """Check that row ids are unique.

        Raises:
            ValueError: two rows share an id.
        """
        ids = [row.id for row in (*self.optional, *self.rows)]
        repeated = {row for row in ids if ids.count(row) > 1}
        if repeated:
            raise ValueError(f"{self.id}: several rows are called {', '.join(sorted(repeated))}")


@dataclass(frozen=True, kw_only=True)
class TableSpec(Experiment):
    """One table; tables beyond the paper may have columns that follow from the profile."""

    columns: tuple[ColumnSpec, ...]
    average: str | None = None
    """Id of the column that is the mean of the others."""
    supplement: tuple[ColumnSpec, ...] = ()
    """Columns of the second table."""
    baseline: str
    """Id of the row that the others are compared with."""
    reference: str
    """Id of the row with the model before preference optimization."""
    paper_setting: str | None = None
    """Model and data of the paper's own table; None if its numbers are not shown."""


@dataclass(frozen=True, kw_only=True)
class FigureSpec(Experiment):
    """One figure of the paper, which its domain draws."""


@dataclass(frozen=True, kw_only=True)
class DynamicsSpec(FigureSpec):
    """Masks and token KL of the first row during training, over one kind of response."""

    response: Literal["chosen", "rejected"]
