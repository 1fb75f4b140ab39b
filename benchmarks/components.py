"""Variance components of a table's columns: expected ones, and those of a result.

`python -m benchmarks.coverage` simulates tables from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Column:
    """One column of a table: how its values vary, in points."""

    name: str
    items: int
    score: float
    """Expected score of every method; without flooring, 0 is chance and 100 perfect."""
    common_sd: float
    """Chain's own deviation that all methods share: world and base model."""
    method_sds: tuple[float, ...]
    """Deviation of each method in a chain, the baseline's first."""
    correlation: float = 0.85
    """Latent correlation of two methods' outcomes on an item."""
    chance: float = 0.0
    """Raw score that is normalised to 0, and floored there."""


def _spread(low: float, high: float) -> tuple[float, ...]:
    """Nine standard deviations: the baseline's in the middle, the others from low to high."""
    middle = math.sqrt(low * high)
    return (middle, *np.geomspace(low, high, 8).tolist())


# What small worlds are expected to have: chains differ by 2–6 points, methods within them by
# 0.3–2 points and by up to a factor of four among each other, 72–900 items.
DEFAULTS = (
    Column("72 items", 72, 55.0, 6.0, _spread(0.5, 2.0)),
    Column("150 items", 150, 70.0, 4.0, _spread(0.3, 1.2)),
    Column("900 items", 900, 70.0, 4.0, _spread(0.5, 2.0)),
    Column("steady methods", 900, 60.0, 2.0, (0.3,) * 9),
    Column("one unsteady method", 400, 60.0, 4.0, (0.5, 2.0, *(0.5,) * 7)),
    Column("near the ceiling", 150, 96.0, 2.0, _spread(0.3, 1.2)),
    Column("floored at chance", 150, 2.0, 3.0, _spread(0.5, 2.0), chance=0.25),
)


def columns_of(result: Mapping[str, Any]) -> list[Column]:
    """Estimate the variance components of a result's columns by moments.

    Args:
        result: the JSON of a table of at least two chains.

    Raises:
        ValueError: if it has no values per chain.
    """
    found = []
    for part in filter(None, (result, result.get("supplement"))):
        for name in part["columns"]:
            cells = {row["id"]: row["values"].get(name) for row in part["rows"]}
            several = {r: c for r, c in cells.items() if c and len(c.get("per_chain", ())) > 1}
            base = several.get(result["baseline"])
            compared = {
                entry["row"]: entry["item_se"]
                for entry in part["significance"]
                if entry["column"] == name and entry["baseline"] == result["baseline"]
            }
            if base is not None and base["item_se"] > 0.0:
                found.append(_moments(name, base, several, compared))
    if not found:
        raise ValueError("No column has the values of several chains.")
    return found


def _moments(
    name: str,
    base: Mapping[str, Any],
    cells: Mapping[str, Mapping[str, Any]],
    item_ses: Mapping[str, float],
) -> Column:
    values = {row: np.array(cell["per_chain"]) for row, cell in cells.items()}
    own = np.array(base["per_chain"])
    rows = [row for row in values if row in item_ses and values[row].size == own.size]
    excess = {r: float(np.var(values[r] - own, ddof=1)) - item_ses[r] ** 2 for r in rows}
    # A difference varies with both of its methods; the baseline's part is in all of them.
    of_base = max(0.0, float(np.median(list(excess.values())))) / 2.0
    sds = [math.sqrt(of_base), *(math.sqrt(max(0.0, excess[r] - of_base)) for r in rows)]
    item_variance = base["item_se"] ** 2
    share = min(0.99, max(0.01, base["mean"] / 100.0))
    related = 1.0 - float(np.median([item_ses[r] ** 2 for r in rows])) / (2.0 * item_variance)
    common = float(np.mean([np.var(values[r], ddof=1) for r in rows])) - item_variance
    common -= float(np.mean(np.square(sds)))
    return Column(
        name,
        # As many yes-or-no items as have the measured variance.
        max(2, round(1e4 * share * (1.0 - share) / item_variance)),
        100.0 * share,
        math.sqrt(max(0.0, common)),
        tuple(sds),
        min(0.99, max(0.0, math.sin(math.pi / 2.0 * related))),
    )
