"""The stage that correlates the metrics with the truth about the world's posts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from harness.domains.common.work.files import write_json
from harness.graph.stages import StageContext
from tasks.metrics.significance import row_weights

FloatArray = NDArray[np.float64]

TRUTHS = ("coverage", "faithfulness", "preference")
_MOST_REPLICATES = 100


def correlate(context: StageContext) -> None:
    """Write correlations.json: metric → truth → Spearman's ρ and its bootstrap replicates.

    An observation is one post at one temperature under one row's model: the means over its samples
    of the metric and of the truth. A replicate draws posts with replacement, with all observations
    of each.

    Configuration: `replicates` (at most 100 are drawn), `seed`. Inputs: the scores of every row.
    """
    scores = [_read(context, row) for row in context.inputs]
    posts = len(scores[0]["prompt_ids"])
    draws = row_weights(
        posts, min(_MOST_REPLICATES, context.config["replicates"]), context.config["seed"]
    ).astype(int)
    found: dict[str, Any] = {}
    for name in scores[0]["metrics"]:
        values = _observations([one["metrics"][name]["values"] for one in scores])
        found[name] = {}
        for truth in TRUTHS:
            true = _observations([one["truth"][truth] for one in scores])
            found[name][truth] = {
                "rho": _spearman(values, true, np.ones(posts, dtype=int)),
                "replicates": [_spearman(values, true, draw) for draw in draws],
                "posts": posts,
            }
    write_json(found, context.work / "correlations.json")


def _read(context: StageContext, row: str) -> dict[str, Any]:
    text = (context.inputs[row] / "scores.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _observations(values: list[dict[str, list[Any]]]) -> FloatArray:
    """Return the mean over samples of each (row and temperature, post); NaN where it is missing."""
    return np.array(
        [[_mean(own) for own in posts] for row in values for posts in row.values()],
        dtype=np.float64,
    )


def _mean(samples: Any) -> float:
    own = samples if isinstance(samples, list) else [samples]
    there = [value for value in own if value is not None]
    return sum(there) / len(there) if there else float("nan")


def _spearman(first: FloatArray, second: FloatArray, counts: NDArray[np.int_]) -> float | None:
    """Return ρ of two arrays (conditions, posts), each post as often as `counts` says."""
    chosen = np.repeat(np.arange(counts.size), counts)
    one, other = first[:, chosen].ravel(), second[:, chosen].ravel()
    there = np.isfinite(one) & np.isfinite(other)
    one, other = one[there], other[there]
    if one.size < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
