"""A table's cells: means over chains, their intervals, and comparisons of rows chain by chain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.spec import UNBOUNDED, Bounds
from tasks.metrics.chains import ChainValues, compare_with, detectable_effect, estimate
from tasks.metrics.significance import FloatArray, holm, row_weights

DIGITS = 6
"""Decimal places of a result's JSON."""


def interval(
    sample: ChainValues, bounds: Bounds = UNBOUNDED, unfloored: ChainValues | None = None
) -> dict[str, Any]:
    """Return a mean over chains, its 95 % interval and its parts, as every result's JSON has them.

    Args:
        sample: the value of each chain.
        bounds: range of the value; the interval may leave it.
        unfloored: the value of each chain before flooring at chance.

    Returns:
        `mean`, `ci95`, `seeds` (the number of chains), `per_chain` (their values) and `item_se`
        (the standard error that one chain's value has because of its items).
    """
    found = estimate(sample, before_flooring=unfloored)
    smallest, largest = bounds
    low = found.low if smallest is None else max(found.low, smallest)
    high = found.high if largest is None else min(found.high, largest)
    return {
        "mean": round(found.mean, DIGITS),
        "ci95": [round(low, DIGITS), round(high, DIGITS)],
        "seeds": sample.chains,
        "per_chain": [round(value, DIGITS) for value in sample.values.tolist()],
        "item_se": round(math.sqrt(sample.item_variance), DIGITS),
    }


@dataclass(frozen=True)
class Statistic:
    """One cell: its value in every chain."""

    sample: ChainValues
    unfloored: ChainValues | None = None
    """The value before flooring at chance, which is 0 there; None for values without chance."""

    @property
    def above_chance(self) -> bool | None:
        """Return whether the interval of the score before flooring lies above chance."""
        return None if self.unfloored is None else estimate(self.unfloored).low > 0.0

    @property
    def mean(self) -> float:
        """Return the mean over chains."""
        return self.sample.mean

    @property
    def n(self) -> int:
        """Return the number of items of a chain."""
        return self.sample.items

    @property
    def seeds(self) -> int:
        """Return the number of chains."""
        return self.sample.chains

    def as_json(self, bounds: Bounds = UNBOUNDED) -> dict[str, Any]:
        """Return the cell as the table's JSON holds it.

        Args:
            bounds: those of its column.
        """
        cell = {**interval(self.sample, bounds, self.unfloored), "n": self.n}
        if self.above_chance is not None:
            cell["above_chance"] = self.above_chance
        return cell


Cells = dict[str, dict[str, Statistic]]
"""Row id → column → statistic; columns that were not measured are absent."""


def are_crossed(items: Mapping[str, Sequence[Any]], what: str) -> bool:
    """Tell whether all chains are scored on the same items; false where each has its own.

    Args:
        items: row → for each of its chains, what identifies the items. Rows have equally many
            chains, or a single one.
        what: whose items, for the message.

    Raises:
        ValueError: if the items of two rows differ in one chain, or a row of one chain is to be
            compared with several that have other items.
    """
    crossed = True
    longest = max(items.values(), key=len)
    for per_chain in items.values():
        if len(per_chain) not in (1, len(longest)):
            raise ValueError(f"{what}: systems have {len(per_chain)} and {len(longest)} chains")
        for chain, own in enumerate(per_chain):
            if own != longest[chain]:
                raise ValueError(f"{what}: systems were measured on different rows")
        crossed &= all(own == longest[0] for own in per_chain)
    if not crossed and any(len(per_chain) < len(longest) for per_chain in items.values()):
        raise ValueError(f"{what}: a system of one chain was measured on different rows")
    return crossed


def draw_seed(settings: StatisticsSettings, chain: int, crossed: bool) -> tuple[int, ...]:
    """Return the seed of a chain's bootstrap over items; crossed chains share their draws."""
    return (settings.seed,) if crossed else (settings.seed, chain)


@lru_cache(maxsize=32)
def _draws(rows: int, replicates: int, seed: tuple[int, ...]) -> FloatArray:
    """Return `row_weights`, drawn once for all values of the same items."""
    weights = row_weights(rows, replicates, seed)
    weights.setflags(write=False)
    return weights


def means_of_chains(
    values: Sequence[FloatArray], settings: StatisticsSettings, crossed: bool
) -> ChainValues:
    """Return the mean over items in each chain, with its bootstrap replicates.

    Equal numbers of items have equal draws, so that means of the same items are paired replicate
    by replicate.

    Args:
        values: for each chain, one value per item, (n,).
        settings: replicates and seed.
        crossed: whether all chains have the same items.
    """
    drawn = [
        _draws(own.size, settings.replicates, draw_seed(settings, chain, crossed)) @ own / own.size
        for chain, own in enumerate(values)
    ]
    means = np.array([own.mean() for own in values])
    return ChainValues(means, np.stack(drawn), min(own.size for own in values), crossed)


def mean_cells(
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    column: str,
    settings: StatisticsSettings,
) -> Cells:
    """Compute a column that is 100 times the mean of one score per item.

    Args:
        scores: row of the table → for each chain, item (a prompt, a problem) → score in [0, 1].
        column: its id.
        settings: replicates and seed.

    Raises:
        ValueError: if two systems were not measured on the same rows in the same chain.
    """
    if not scores:
        return {}
    items = {row: [list(one) for one in chains] for row, chains in scores.items()}
    crossed = are_crossed(items, column)
    cells: Cells = {}
    for row, per_chain in scores.items():
        values = [100.0 * np.array(list(one.values())) for one in per_chain]
        sample = means_of_chains(values, settings, crossed)
        cells[row] = {column: Statistic(sample)}
    return cells


@dataclass(frozen=True)
class Comparisons:
    """All rows against one of them."""

    entries: list[dict[str, Any]]
    """One per column and row."""
    detectable: dict[str, float]
    """Column → the smallest difference that would probably be found; absent with one chain."""


def compare_rows(
    cells: Cells,
    baseline: str,
    columns: Sequence[str],
    settings: StatisticsSettings,
    methods: Mapping[str, str] | None = None,
) -> Comparisons:
    """Compare every row with a baseline, Holm's adjustment within each column.

    Args:
        cells: statistics made with the same draws.
        baseline: the row that the others are compared with; no comparisons without it.
        columns: which columns.
        settings: alpha, the threshold for the adjusted p-value.
        methods: row id → its method; a row that is absent is called like its method.

    Returns:
        The comparisons, which have neither p-values nor marks with a single chain.
    """
    entries: list[dict[str, Any]] = []
    detectable: dict[str, float] = {}
    for column in columns if baseline in cells else ():
        base = cells[baseline].get(column)
        if base is None:
            continue
        samples = {
            row: own[column].sample
            for row, own in cells.items()
            if row != baseline and column in own
        }
        found = compare_with(base.sample, samples)
        effect = detectable_effect(found, settings.alpha)
        if effect is not None:
            detectable[column] = round(effect, DIGITS)
        adjusted = holm({row: one.p for row, one in found.items() if one.p is not None})
        for row, one in found.items():
            difference = samples[row].minus(base.sample)
            entries.append(
                {
                    "column": column,
                    "row": row,
                    "method": (methods or {}).get(row, row),
                    "baseline": baseline,
                    "difference": round(one.difference, DIGITS),
                    "ci95": [round(one.low, DIGITS), round(one.high, DIGITS)],
                    "p": None if one.p is None else round(one.p, DIGITS),
                    "p_holm": round(adjusted[row], DIGITS) if row in adjusted else None,
                    "df": None if one.df is None else round(one.df, DIGITS),
                    "item_se": round(math.sqrt(difference.item_variance), DIGITS),
                    "significant": bool(row in adjusted and adjusted[row] < settings.alpha),
                }
            )
    return Comparisons(entries, detectable)


def compare_with_zero(
    samples: Mapping[str, ChainValues], settings: StatisticsSettings
) -> dict[str, dict[str, Any]]:
    """Test whether quantities differ from 0, such as differences; Holm's adjustment over all.

    Args:
        samples: by name.
        settings: alpha, the threshold for the adjusted p-value.

    Returns:
        Name → `difference`, `ci95`, `p_holm` (None with a single chain) and `significant`.
    """
    if not samples:
        return {}
    first = next(iter(samples.values()))
    found = compare_with(first.minus(first), samples)
    adjusted = holm({name: one.p for name, one in found.items() if one.p is not None})
    return {
        name: {
            "difference": round(one.difference, DIGITS),
            "ci95": [round(one.low, DIGITS), round(one.high, DIGITS)],
            "p_holm": round(adjusted[name], DIGITS) if name in adjusted else None,
            "significant": bool(name in adjusted and adjusted[name] < settings.alpha),
        }
        for name, one in found.items()
    }
