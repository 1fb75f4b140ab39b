"""How well a score ranks positives above negatives: AUROC and average precision with intervals.

Tokens of one text are no independent draws, so the bootstrap draws whole texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.metrics.significance import FloatArray, row_weights


@dataclass(frozen=True, slots=True)
class Ranking:
    """AUROC and average precision of a score, with bootstrap replicates."""

    auroc: float
    average_precision: float
    auroc_replicates: FloatArray
    average_precision_replicates: FloatArray
    positives: int
    items: int


def rank(
    scores: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    replicates: int,
    seed: int,
) -> Ranking:
    """Measure how well scores tell positives from negatives.

    AUROC = P(score of a positive > score of a negative) + ½·P(equal). Average precision =
    Σ_k (recall_k − recall_{k−1})·precision_k over the distinct scores from the highest on. Both are
    scikit-learn's.

    Args:
        scores: scores of each text's tokens, higher for more likely positive.
        labels: 1 or True for positives, of the same shapes.
        replicates: number of bootstrap replicates over texts, R.
        seed: of the bootstrap; the same seed pairs scores of the same texts.

    Returns:
        The two values and their replicates, (R,). A replicate without positives or negatives, which
        has no value, takes the sample's own.

    Raises:
        ValueError: if there are no positives or no negatives, or a score is not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    values = np.concatenate([np.asarray(one, dtype=np.float64) for one in scores])
    truth = np.concatenate([np.asarray(one, dtype=bool) for one in labels])
    if values.shape != truth.shape or not np.isfinite(values).all():
        raise ValueError("each token needs a finite score and a label")
    if truth.all() or not truth.any():
        raise ValueError("a ranking needs positives and negatives")
    auroc = float(roc_auc_score(truth, values))
    precision = float(average_precision_score(truth, values))
    groups = np.repeat(np.arange(len(scores)), [np.size(one) for one in scores])
    counts = row_weights(len(scores), replicates, seed)
    drawn = weighted_rankings(values, truth, groups, counts)
    return Ranking(
        auroc,
        precision,
        np.where(np.isnan(drawn[0]), auroc, drawn[0]),
        np.where(np.isnan(drawn[1]), precision, drawn[1]),
        int(truth.sum()),
        int(truth.size),
    )


def weighted_rankings(
    values: FloatArray,
    truth: NDArray[np.bool_],
    groups: NDArray[np.int64],
    counts: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return AUROC and average precision under many weightings of groups.

    Both are sums over positives of what stands below or above them, group by group, so that a
    weighting is a matrix product; scikit-learn's own functions would sort anew for each.

    Args:
        values: scores, (n,).
        truth: labels, (n,).
        groups: which group each item belongs to, (n,).
        counts: weight of each group, (R, groups).

    Returns:
        Two arrays, (R,); NaN where the weights leave no positive or no negative.
    """
    positives, owner = values[truth], groups[truth]
    above, level, hits = (np.zeros((counts.shape[1], positives.size)) for _ in range(3))
    for group in range(counts.shape[1]):
        own = groups == group
        misses = np.sort(values[own & ~truth])
        first, last = (np.searchsorted(misses, positives, side) for side in ("left", "right"))
        # Negatives below a positive, those as high, and those at least as high.
        above[group] = first + 0.5 * (last - first)
        level[group] = misses.size - first
        hit = np.sort(values[own & truth])
        hits[group] = hit.size - np.searchsorted(hit, positives, "left")
    weights = counts[:, owner]
    total = weights.sum(axis=1)
    negatives = counts @ np.bincount(groups[~truth], minlength=counts.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        aurocs = (weights * (counts @ above)).sum(axis=1) / (total * negatives)
        found = counts @ hits
        precision = np.where(found > 0, found / (found + counts @ level), 0.0)
        precisions = (weights * precision).sum(axis=1) / total
    return aurocs, np.where(negatives > 0, precisions, np.nan)
