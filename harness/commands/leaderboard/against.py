"""Every entry against one of them, metric by metric, paired by chain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from harness.domains.common.cells import DIGITS
from harness.render.columns import mark, parts_of, row_id
from tasks.metrics.chains import ChainValues, compare_with
from tasks.metrics.significance import holm

_DRAWS = 200
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / _DRAWS) for i in range(_DRAWS)])
"""Draws of an item error, as a bootstrap would give them, with the variance 1."""
_NORMAL /= _NORMAL.std()

Cells = Mapping[str, Mapping[str, Any]]
"""Entry id → its cell in one column."""


def compare_column(
    results: Iterable[Mapping[str, Any]], column: str, cells: Cells, baseline: str
) -> dict[str, dict[str, Any]]:
    """Compare a column's entries with one of them, Holm over the entries.

    A comparison that a result already holds is taken from it. Others are made from the values of
    the chains by the same test. The error of items that all chains share is not in a result; where
    chains may share items (data from files), it is taken as that of independent errors, which is
    too large rather than too small.

    Args:
        results: the results that the column's cells come from.
        column: its id.
        cells: the entries with a value.
        baseline: id of the entry that the others are compared with.

    Returns:
        Entry id → `difference`, `ci95`, `p`, `p_holm`, `significant`, `mark`; empty if the baseline
        has no value, or the experiment compares no rows in this column.
    """
    results = list(results)
    if baseline not in cells or column not in compared_columns(results[0]):
        return {}
    alpha = float(results[0]["provenance"]["statistics"].get("alpha", 0.05))
    crossed = any(may_share_items(result) for result in results)
    made = _from_chains(cells, baseline, crossed)
    for result in results:
        for name, entry in _held(result, column, baseline).items():
            if name in made:
                made[name] = {key: entry[key] for key in ("difference", "ci95", "p")}
    adjusted = holm({name: one["p"] for name, one in made.items() if one["p"] is not None})
    found = {}
    for name, one in made.items():
        p = adjusted.get(name)
        significant = p is not None and p < alpha
        judged = {"column": column, "significant": significant, "difference": one["difference"]}
        found[name] = {
            **one,
            "p_holm": None if p is None else round(p, DIGITS),
            "significant": significant,
            "mark": mark(results[0], judged),
        }
    return found


def result_columns(result: Mapping[str, Any]) -> list[str]:
    """Return the columns of all parts of a result, in order."""
    return list(dict.fromkeys(name for part in parts_of(result) for name in part["columns"]))


def compared_columns(result: Mapping[str, Any]) -> set[str]:
    """Return the columns in which an experiment compares its rows.

    In some it does not, such as a diversity among samples that are all the same. A result without
    its baseline compares no rows at all, and says nothing about columns.

    Args:
        result: its JSON.
    """
    found = {entry["column"] for part in parts_of(result) for entry in part["significance"]}
    return found or set(result_columns(result))


def may_share_items(result: Mapping[str, Any]) -> bool:
    """Return whether the chains of a result may be scored on the same items.

    Args:
        result: its JSON; chains of an embedded world have items of their own.
    """
    data = result["provenance"]["settings"].get("data", {})
    return any(isinstance(value, str) and value not in ("world", "none") for value in data.values())


def _held(result: Mapping[str, Any], column: str, baseline: str) -> dict[str, Mapping[str, Any]]:
    return {
        row_id(entry): entry
        for block in parts_of(result)
        for entry in block["significance"]
        if entry["column"] == column and entry["baseline"] == baseline
    }


def _from_chains(cells: Cells, baseline: str, crossed: bool) -> dict[str, dict[str, Any]]:
    base = cells[baseline]
    differences = {}
    for name, cell in cells.items():
        if name == baseline:
            continue
        values = np.asarray(cell["per_chain"], dtype=np.float64) - base["per_chain"]
        error = math.hypot(cell.get("item_se", 0.0), base.get("item_se", 0.0))
        drawn = np.tile(error * _NORMAL, (values.size, 1)) + values[:, None]
        differences[name] = ChainValues(values, drawn, min(cell["n"], base["n"]), crossed)
    if not differences:
        return {}
    chains = max(one.chains for one in differences.values())
    zero = ChainValues(np.zeros(chains), np.zeros((chains, _DRAWS)), base["n"], crossed)
    compared = compare_with(zero, differences)
    return {
        name: {
            "difference": round(one.difference, DIGITS),
            "ci95": [round(one.low, DIGITS), round(one.high, DIGITS)],
            "p": None if one.p is None else round(one.p, DIGITS),
        }
        for name, one in compared.items()
    }
