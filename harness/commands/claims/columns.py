"""One quantity of several rows in every chain, read from the JSON of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from scipy.linalg import hadamard

from harness.render.columns import parts_of, row_id
from tasks.metrics.chains import ChainValues
from tasks.metrics.significance import FloatArray

Results = Mapping[str, Mapping[str, Any]]
"""Id of an experiment → its JSON."""

POINTS = "points"
_DRAWS = 256
"""Number of pseudo-replicates, whose signs are orthogonal between quantities."""


class MissingQuantityError(Exception):
    """A result lacks what a claim needs; the text is a clause without a full stop."""


@dataclass(frozen=True)
class Column:
    """One quantity of several rows."""

    label: str
    unit: str
    values: Mapping[str, ChainValues]
    """Key of a row → its value in every chain."""
    labels: Mapping[str, str]
    """Key of a row → what it is called."""

    def mean_of(self, keys: Sequence[str]) -> ChainValues:
        """Return the mean of several rows, chain by chain.

        Raises:
            MissingQuantityError: a row is missing.
        """
        found = [self.row(key) for key in keys]
        if len({one.chains for one in found}) > 1:
            raise MissingQuantityError(f"rows of {self.label} have different numbers of chains")
        return mean_of(found)

    def row(self, key: str) -> ChainValues:
        """Return a row.

        Raises:
            MissingQuantityError: it is missing.
        """
        if key not in self.values:
            raise MissingQuantityError(f"{self.label} has no value for {self.labels.get(key, key)}")
        return self.values[key]


class Measure(Protocol):
    """What is compared; hashable, because columns and comparisons are kept."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """Ids of the experiments whose results it reads."""

    def column(self, results: Results) -> Column:
        """Read the quantity.

        Raises:
            MissingQuantityError: a result does not have it.
        """


@dataclass(frozen=True)
class TableColumn:
    """A column of a table, its supplement, or another part of a result."""

    experiment: str
    id: str

    @property
    def experiments(self) -> tuple[str, ...]:
        """Return the experiment."""
        return (self.experiment,)

    def column(self, results: Results) -> Column:
        """Return the column."""
        result = results[self.experiment]
        label = result.get("column_labels", {}).get(self.id, self.id)
        values: dict[str, ChainValues] = {}
        labels: dict[str, str] = {}
        for part in parts_of(result):
            for row in part.get("rows", []):
                key = row_id(row)
                labels[key] = row["label"]
                cell = row["values"].get(self.id)
                if cell is not None:
                    values[key] = chain_values(cell, cell["n"], result, len(values))
        if not values:
            raise MissingQuantityError(f"{self.experiment} has no column {self.id}")
        unit = "nats" if self.id.startswith("kl") else POINTS
        return Column(label, unit, values, labels)


@dataclass(frozen=True)
class MeanColumn:
    """The mean of several columns, row by row."""

    experiment: str
    label: str
    ids: tuple[str, ...]

    @property
    def experiments(self) -> tuple[str, ...]:
        """Return the experiment."""
        return (self.experiment,)

    def column(self, results: Results) -> Column:
        """Return the mean for the rows that have all columns."""
        found = [TableColumn(self.experiment, id).column(results) for id in self.ids]
        keys = [key for key in found[0].values if all(key in one.values for one in found)]
        return Column(
            self.label,
            found[0].unit,
            {key: mean_of([one.values[key] for one in found]) for key in keys},
            found[0].labels,
        )


@dataclass(frozen=True)
class Changes:
    """How far the mean of some rows is from a reference, for each of several columns."""

    experiment: str
    label: str
    ids: tuple[str, ...]
    rows: tuple[str, ...]
    reference: str

    @property
    def experiments(self) -> tuple[str, ...]:
        """Return the experiment."""
        return (self.experiment,)

    def column(self, results: Results) -> Column:
        """Return one row per column."""
        columns = {id: TableColumn(self.experiment, id).column(results) for id in self.ids}
        return Column(
            self.label,
            POINTS,
            {
                id: one.mean_of(self.rows).minus(one.row(self.reference))
                for id, one in columns.items()
            },
            {id: one.label for id, one in columns.items()},
        )


@dataclass(frozen=True)
class Absent:
    """A quantity that no result has."""

    experiments: tuple[str, ...]
    reason: str

    def column(self, results: Results) -> Column:
        """Say that it is missing.

        Raises:
            MissingQuantityError: always.
        """
        raise MissingQuantityError(self.reason)


def chain_values(
    cell: Mapping[str, Any], items: int, result: Mapping[str, Any], place: int
) -> ChainValues:
    """Return the chains of a cell.

    A result does not hold its bootstrap. Its standard error because of items is put back as
    replicates that have it, and that are not correlated between the rows of a column: where chains
    share their items, the variance of a difference is then rather too large.

    Args:
        cell: `per_chain` and `item_se`.
        items: number of items of a chain.
        result: the JSON that has the cell.
        place: of the row in its column.

    Raises:
        MissingQuantityError: the values of the chains are not in the result.
    """
    values = cell.get("per_chain")
    if not values:
        raise MissingQuantityError(f"{result['id']} was made without the values of each chain")
    drawn = float(cell.get("item_se") or 0.0) * _signs(place)
    return ChainValues(
        np.array(values, dtype=np.float64),
        np.broadcast_to(drawn, (len(values), len(drawn))),
        items,
        shares_items(result),
    )


def plain_values(
    values: Sequence[float] | FloatArray, items: int, result: Mapping[str, Any]
) -> ChainValues:
    """Return chains of a quantity whose error because of items is not known.

    Args:
        values: one per chain.
        items: number of items of a chain.
        result: the JSON that they come from.

    Raises:
        MissingQuantityError: the chains share their items, so that the error counts.
    """
    own = np.asarray(values, dtype=np.float64)
    if len(own) > 1 and shares_items(result):
        raise MissingQuantityError(
            f"the chains of {result['id']} share their items, and how much of this quantity's "
            "error they share is not in the result"
        )
    return ChainValues(own, np.broadcast_to(np.zeros(_DRAWS), (len(own), _DRAWS)), items)


def mean_of(values: Sequence[ChainValues]) -> ChainValues:
    """Return the mean of several quantities, chain by chain and replicate by replicate."""
    return ChainValues(
        np.mean([one.values for one in values], axis=0),
        _mean_replicates([one.replicates for one in values]),
        min(one.items for one in values),
        any(one.crossed for one in values),
    )


def _mean_replicates(replicates: Sequence[FloatArray]) -> FloatArray:
    """Return the mean of arrays (C, R), computed once where they are the same in every chain."""
    found: FloatArray
    if all(own.strides[0] == 0 for own in replicates):
        found = np.mean([own[0] for own in replicates], axis=0)
        return np.broadcast_to(found, replicates[0].shape)
    found = np.mean(replicates, axis=0)
    return found


def shares_items(result: Mapping[str, Any]) -> bool:
    """Tell whether the chains of a result may share their items.

    They do not if all of its data are those of embedded worlds, of which every chain has its own.
    """
    data = result.get("provenance", {}).get("settings", {}).get("data", {})
    named = [value for value in data.values() if isinstance(value, str)]
    return any(value != "world" for value in named)


@lru_cache(maxsize=_DRAWS)
def _signs(place: int) -> FloatArray:
    signs: FloatArray = hadamard(_DRAWS)[1 + place % (_DRAWS - 1)].astype(np.float64)
    return signs
