"""Predicates over differences of chains, and the evidence for and against them.

A claim is made of comparisons θ > c or θ < c, joined by `All` and `Any`. Each node has two
p-values: one for the hypothesis that the statement is false, which support rejects, and one for
the hypothesis that it is true, which contradiction rejects. For k parts,

    all of them:  p_for = max p_for,            p_against = min(1, k · min p_against),
    any of them:  p_for = min(1, k · min p_for), p_against = max p_against.

The maximum is the intersection–union test (Berger, 1982), which needs no correction; the minimum is
Bonferroni's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scipy.special import stdtr, stdtrit

from harness.commands.claims.columns import Column, Measure, MissingQuantityError, Results
from tasks.metrics.chains import POWER, ChainValues, Comparison, compare_with

Keys = tuple[str, ...]
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Compare:
    """The comparison θ > by, or θ < by, where θ is a difference of two rows."""

    measure: Measure
    first: Keys
    """Rows whose mean is compared."""
    second: Keys
    """Rows whose mean is subtracted; nothing is, if there are none."""
    above: bool
    by: float = 0.0


@dataclass(frozen=True)
class All:
    """All of several statements."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Any:
    """At least one of several statements."""

    parts: tuple[Predicate, ...]


Predicate = Compare | All | Any


def above(measure: Measure, first: str | Keys, second: str | Keys = (), by: float = 0.0) -> Compare:
    """Return "first − second > by"."""
    return Compare(measure, _keys(first), _keys(second), True, by)


def below(measure: Measure, first: str | Keys, second: str | Keys = (), by: float = 0.0) -> Compare:
    """Return "first − second < by"."""
    return Compare(measure, _keys(first), _keys(second), False, by)


def within(measure: Measure, first: str | Keys, second: str | Keys, margin: float) -> All:
    """Return "first and second differ by less than a margin", both one-sided tests (TOST)."""
    return All((above(measure, first, second, -margin), below(measure, first, second, margin)))


def slightly_below(measure: Measure, first: str | Keys, second: str | Keys, margin: float) -> All:
    """Return "first is below second, by less than a margin"."""
    return All((below(measure, first, second), above(measure, first, second, -margin)))


def every_above(measure: Measure, first: Sequence[str], second: Sequence[str]) -> All:
    """Return "each of the first rows is above each of the second"; no row with itself."""
    return All(tuple(above(measure, a, b) for a in first for b in second if a != b))


def every_below(measure: Measure, first: Sequence[str], second: Sequence[str]) -> All:
    """Return "each of the first rows is below each of the second"; no row with itself."""
    return All(tuple(below(measure, a, b) for a in first for b in second if a != b))


def some_above_all(measure: Measure, candidates: Keys, others: Keys) -> Any:
    """Return "one of the candidates is above all of the others"."""
    return Any(
        tuple(All(tuple(above(measure, one, other) for other in others)) for one in candidates)
    )


def leaves(predicate: Predicate) -> Iterator[Compare]:
    """Yield the comparisons of a predicate."""
    if isinstance(predicate, Compare):
        yield predicate
    else:
        for part in predicate.parts:
            yield from leaves(part)


@dataclass(frozen=True)
class Part:
    """One comparison, evaluated."""

    of: str
    """What θ is."""
    statement: str
    """"> 0", "< 2"."""
    estimate: float
    low: float
    high: float
    unit: str
    error: float
    df: float | None
    chains: int
    items: int
    p_for: float
    p_against: float
    by: float
    pooled: bool
    """Whether other rows lend their variance."""

    def detectable(self, alpha: float) -> float | None:
        """Return the smallest |θ − by| that a one-sided test at alpha finds in 80 % of samples."""
        if self.df is None or self.error <= 0.0:
            return None
        return self.error * (float(stdtrit(self.df, 1.0 - alpha)) + float(stdtrit(self.df, POWER)))


@dataclass(frozen=True)
class Evidence:
    """What the chains say of a predicate."""

    p_for: float
    p_against: float
    part_for: Part
    """The comparison that p_for is of, and the number that its p-value was multiplied by."""
    part_against: Part
    factor_for: int = 1
    factor_against: int = 1
    parts: tuple[Part, ...] = field(default=())


class Evaluator:
    """Evaluates predicates on the results of a profile; columns and comparisons are kept."""

    def __init__(self, results: Results) -> None:
        """Remember the results."""
        self._results = results
        self._columns: dict[Measure, Column] = {}
        self._compared: dict[tuple[Measure, Keys, Keys], Comparison] = {}

    def evaluate(self, predicate: Predicate) -> Evidence:
        """Test a predicate.

        Raises:
            MissingQuantityError: a result lacks something.
        """
        if isinstance(predicate, Compare):
            part = self._part(predicate)
            return Evidence(part.p_for, part.p_against, part, part, parts=(part,))
        found = [self.evaluate(part) for part in predicate.parts]
        count = len(found)
        least_for = min(found, key=lambda one: one.p_for)
        most_for = max(found, key=lambda one: one.p_for)
        least_against = min(found, key=lambda one: one.p_against)
        most_against = max(found, key=lambda one: one.p_against)
        parts = tuple(part for one in found for part in one.parts)
        if isinstance(predicate, All):
            return Evidence(
                most_for.p_for,
                min(1.0, count * least_against.p_against),
                most_for.part_for,
                least_against.part_against,
                most_for.factor_for,
                count * least_against.factor_against,
                parts,
            )
        return Evidence(
            min(1.0, count * least_for.p_for),
            most_against.p_against,
            least_for.part_for,
            most_against.part_against,
            count * least_for.factor_for,
            most_against.factor_against,
            parts,
        )

    def holds(self, predicate: Predicate) -> bool:
        """Tell whether a predicate is true of the means themselves, as if they were the truth."""
        if isinstance(predicate, Compare):
            column = self.column(predicate.measure)
            value = column.mean_of(predicate.first).mean
            if predicate.second:
                value -= column.mean_of(predicate.second).mean
            beyond = value - predicate.by if predicate.above else predicate.by - value
            return beyond > _ROUNDING
        found = (self.holds(part) for part in predicate.parts)
        return all(found) if isinstance(predicate, All) else any(found)

    def column(self, measure: Measure) -> Column:
        """Return the column of a measure."""
        if measure not in self._columns:
            self._columns[measure] = measure.column(self._results)
        return self._columns[measure]

    def _part(self, compare: Compare) -> Part:
        column = self.column(compare.measure)
        one = self._comparison(compare, column)
        first = column.mean_of(compare.first)
        p_above, p_below = _one_sided(one, compare.by)
        names = [_name(column, keys) for keys in (compare.first, compare.second) if keys]
        return Part(
            of=f"{' − '.join(names)}, {column.label}",
            statement=f"{'>' if compare.above else '<'} {compare.by:g}".replace("-", "−"),
            estimate=one.difference,
            low=one.low,
            high=one.high,
            unit=column.unit,
            error=one.standard_error,
            df=one.df,
            chains=first.chains,
            items=first.items,
            p_for=p_above if compare.above else p_below,
            p_against=p_below if compare.above else p_above,
            by=compare.by,
            pooled=len(column.values) > 2,
        )

    def _comparison(self, compare: Compare, column: Column) -> Comparison:
        key = (compare.measure, compare.first, compare.second)
        if key not in self._compared:
            first = column.mean_of(compare.first)
            named = {*compare.second, *(compare.first if len(compare.first) > 1 else ())}
            rows: dict[tuple[str, ...], ChainValues] = {
                (name,): row for name, row in column.values.items() if name not in named
            }
            rows[compare.first] = first
            baseline = column.mean_of(compare.second) if compare.second else first.minus(first)
            try:
                found = compare_with(
                    baseline, {str(place): row for place, row in enumerate(rows.values())}
                )
            except ValueError:
                raise MissingQuantityError(
                    f"rows of {column.label} have different numbers of chains"
                ) from None
            kept = rows if len(compare.first) == 1 else (compare.first,)
            places = {name: str(place) for place, name in enumerate(rows)}
            for name in kept:
                self._compared[compare.measure, name, compare.second] = found[places[name]]
        return self._compared[key]


def _one_sided(one: Comparison, by: float) -> tuple[float, float]:
    """Return the p-values of "θ ≤ by" and "θ ≥ by"; 1 where there is no spread to test with."""
    if one.df is None or one.standard_error <= 0.0 or not math.isfinite(one.difference):
        return 1.0, 1.0
    ratio = (one.difference - by) / one.standard_error
    return float(stdtr(one.df, -ratio)), float(stdtr(one.df, ratio))


def _keys(rows: str | Keys) -> Keys:
    return (rows,) if isinstance(rows, str) else rows


def _name(column: Column, keys: Keys) -> str:
    names = [column.labels.get(key, key) for key in keys]
    return names[0] if len(names) == 1 else f"mean of {', '.join(names)}"
