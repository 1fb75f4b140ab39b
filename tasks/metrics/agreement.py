"""Cohen's κ: how far two raters agree beyond chance, with weights for its bootstrap."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tasks.metrics.significance import FloatArray


def cohen_kappa(
    first: Sequence[Sequence[Hashable]],
    second: Sequence[Sequence[Hashable]],
    weights: ArrayLike,
) -> FloatArray:
    """Compute Cohen's κ from items that are rated once or several times each.

    With p_o the share of ratings that agree and p_e = Σ_k p_1(k) p_2(k) the share expected of
    raters who are independent and as fond of each category k: ``κ = (p_o − p_e) / (1 − p_e)``.

    Args:
        first: the first rater's ratings of each item; all of an item have its weight.
        second: the second rater's, as many for each item.
        weights: of the items, (R, n): ones, or a line of counts per bootstrap replicate.

    Returns:
        One κ per line of weights, (R,); NaN where p_e = 1, as with a single category.

    Raises:
        ValueError: if an item does not have equally many ratings by both.

    Source:
        Cohen, A coefficient of agreement for nominal scales (1960).
    """
    categories = {
        one: index
        for index, one in enumerate(
            dict.fromkeys(rating for rater in (first, second) for own in rater for rating in own)
        )
    }
    size = len(categories)
    counts = np.zeros((len(first), size, size))
    for item, (own, other) in enumerate(zip(first, second, strict=True)):
        for one, two in zip(own, other, strict=True):
            counts[item, categories[one], categories[two]] += 1.0
    tables = np.einsum("rn,nij->rij", np.asarray(weights, dtype=np.float64), counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = tables / tables.sum(axis=(1, 2), keepdims=True)
        observed = np.einsum("rii->r", tables)
        expected = (tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1)
        # Rounding leaves a sum of shares next to 1.
        kappa: FloatArray = np.where(
            expected < 1.0 - 1e-12, (observed - expected) / (1.0 - expected), np.nan
        )
    return kappa
