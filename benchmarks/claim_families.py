"""Verdicts of many families of results at once, for `benchmarks.claims`.

The results of F families are one set of results with F · C chains, because every quantity that a
claim compares is computed chain by chain. Only the comparisons over chains, which belong to one
family, are repeated here for all of them: those of `tasks.metrics.chains.compare_with` where each
chain has items of its own, of `harness.commands.claims.predicates`, and Holm's. A test compares
the verdicts with the command's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from harness.commands.claims.claim import Claim
from harness.commands.claims.columns import Column, Measure, Results
from harness.commands.claims.evaluate import ALPHA
from harness.commands.claims.predicates import All, Compare, Keys, Predicate
from tasks.metrics.chains import PRIOR_DF, ChainValues
from tasks.metrics.significance import FloatArray

BoolArray = NDArray[np.bool_]
_Differences = tuple[FloatArray, FloatArray, FloatArray]
"""Mean, standard error and degrees of freedom in every family, (F,) each."""


def verdicts(
    claims: Sequence[Claim], results: Results, families: int
) -> tuple[BoolArray, BoolArray]:
    """Judge claims in every family, corrected over the claims of a family.

    Args:
        claims: the claims, all of which can be tested.
        results: id of an experiment → its JSON, whose cells have the chains of one family after
            those of another.
        families: their number F.

    Returns:
        Which claims are supported, and which contradicted, (claims, F) each.
    """
    own = _Families(results, families)
    p_values = np.array([own.p_values(claim.predicate) for claim in claims])
    p_for, p_against = p_values[:, 0], p_values[:, 1]
    adjusted = _holm(np.concatenate([p_for, p_against]))
    against = p_against < p_for
    supported: BoolArray = ~against & (adjusted[: len(claims)] < ALPHA)
    contradicted: BoolArray = against & (adjusted[len(claims) :] < ALPHA)
    return supported, contradicted


def _holm(p_values: FloatArray) -> FloatArray:
    """Adjust the p-values of each family, (hypotheses, F)."""
    order = np.argsort(p_values, axis=0)
    left = np.arange(len(p_values), 0, -1)[:, None]
    ordered = np.minimum(1.0, left * np.take_along_axis(p_values, order, axis=0))
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(ordered, axis=0), axis=0)
    return adjusted


class _Families:
    """The p-values of predicates in every family; columns and comparisons are kept."""

    def __init__(self, results: Results, families: int) -> None:
        self._results, self._families = results, families
        self._columns: dict[Measure, Column] = {}
        self._compared: dict[tuple[Measure, Keys, Keys], _Differences] = {}

    def p_values(self, predicate: Predicate) -> tuple[FloatArray, FloatArray]:
        """Return p_for and p_against, (F,) each."""
        if isinstance(predicate, Compare):
            mean, error, df = self._differences(predicate)
            tested = error > 0.0
            ratio = (mean - predicate.by) / np.where(tested, error, 1.0)
            above, below = (np.where(tested, stdtr(df, -sign * ratio), 1.0) for sign in (1.0, -1.0))
            return (above, below) if predicate.above else (below, above)
        found = [self.p_values(part) for part in predicate.parts]
        p_for, p_against = (np.array(one) for one in zip(*found, strict=True))
        count = len(found)
        if isinstance(predicate, All):
            return p_for.max(axis=0), np.minimum(1.0, count * p_against.min(axis=0))
        return np.minimum(1.0, count * p_for.min(axis=0)), p_against.max(axis=0)

    def _differences(self, compare: Compare) -> _Differences:
        key = (compare.measure, compare.first, compare.second)
        if key not in self._compared:
            if compare.measure not in self._columns:
                self._columns[compare.measure] = compare.measure.column(self._results)
            column = self._columns[compare.measure]
            named = {*compare.second, *compare.first}
            rows: dict[Keys, ChainValues] = {
                (name,): row for name, row in column.values.items() if name not in named
            }
            rows[compare.first] = first = column.mean_of(compare.first)
            if len(compare.first) > 1:
                kept: Sequence[Keys] = (compare.first,)
            else:
                kept = tuple(rows)
            baseline = column.mean_of(compare.second) if compare.second else first.minus(first)
            found = self._compared_with(baseline, list(rows.values()))
            for place, name in enumerate(rows):
                if name in kept:
                    mean, error, df = (one[place] for one in found)
                    self._compared[compare.measure, name, compare.second] = mean, error, df
        return self._compared[key]

    def _compared_with(self, baseline: ChainValues, rows: Sequence[ChainValues]) -> Any:
        """Return means, standard errors and degrees of freedom, (M, F) each."""
        assert not any(row.crossed for row in (baseline, *rows)), "chains have their own items"
        values = np.array([row.values - baseline.values for row in rows])
        values = values.reshape(len(rows), self._families, -1)
        # The drawn results have the same error because of items in every chain.
        items = np.array([(row.replicates[0] - baseline.replicates[0]).var() for row in rows])
        chains = values.shape[2]
        own_df = chains - 1
        mean, between = values.mean(axis=2), values.var(axis=2, ddof=1)
        size = np.maximum(1.0, np.abs(values).max(axis=2))
        equal = np.ptp(values, axis=2) <= 1e-9 * size
        between = np.where(equal, items[:, None], between)
        varying = (between > 0.0).sum(axis=0)
        pooled = between.sum(axis=0) / np.maximum(1, varying)
        others = np.maximum(1, (varying - 1) * own_df)
        lent = np.where(varying < 2, 0.0, 1.0 / (1.0 / PRIOR_DF + 1.0 / others))
        moderated = (lent * pooled + own_df * between) / (lent + own_df)
        nothing = (between == 0.0) & (mean == 0.0)
        error = np.where(nothing, 0.0, np.sqrt(moderated / chains))
        return mean, error, np.broadcast_to(lent + own_df, error.shape)
