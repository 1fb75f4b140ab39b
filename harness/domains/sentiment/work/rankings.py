"""The stages that measure how well masks and token rewards rank the decisive tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from harness.domains.sentiment.work.common import LABELS, LENGTHS, TOKENS
from harness.graph.stages import StageContext
from tasks.metrics.ranking import rank

RANKINGS = "rankings.npz"
RANDOM_DRAWS = 10
"""Number of random masks whose rankings are averaged."""


def rank_tokens(context: StageContext) -> None:
    """Write rankings.npz: how well masks and token rewards find the decisive tokens.

    Configuration: `replicates`, `seed`. Inputs: "run" and "labels". For each `<step>/<score>`,
    where score is reward_mask, kl_mask or log_ratios (its absolute value), an array (2, 1 + R):
    AUROC and average precision, the sample's own first, then R bootstrap replicates over responses.
    """
    truth = decisive_tokens(context)
    with np.load(context.inputs["run"] / TOKENS) as tokens:
        if tokens[LENGTHS].tolist() != [len(one) for one in truth]:
            raise ValueError("the tokens that were evaluated are not those that have labels")
        scores = {name: np.abs(tokens[name]) for name in tokens.files if name != LENGTHS}
    found = {name: ranking_of(context, truth, values) for name, values in scores.items()}
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def rank_baselines(context: StageContext) -> None:
    """Write rankings.npz as `rank_tokens` does, for scores that need no training.

    Configuration: see `rank_tokens`. Input: "labels". The scores are `expected`, the reference's
    expectation, and `random`, the mean over uniform draws; `counts` contains the numbers of
    decisive tokens, tokens and responses.
    """
    truth = decisive_tokens(context)
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    expected = np.concatenate([one["expected"] for one in labels["responses"]])
    generator = np.random.default_rng(context.config["seed"])
    draws = [
        ranking_of(context, truth, generator.random(expected.size)) for _ in range(RANDOM_DRAWS)
    ]
    found = {
        "expected": ranking_of(context, truth, expected),
        "random": np.mean(draws, axis=0),
        "counts": np.array([sum(int(one.sum()) for one in truth), expected.size, len(truth)]),
    }
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def decisive_tokens(context: StageContext) -> list[Any]:
    """Return which tokens of each response are decisive."""
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    return [np.asarray(one["labels"], dtype=bool) for one in labels["responses"]]


def ranking_of(context: StageContext, truth: list[Any], values: Any) -> Any:
    """Return AUROC and average precision, each with its replicates, (2, 1 + R).

    Args:
        context: a stage's, with `replicates` and `seed`.
        truth: see `decisive_tokens`.
        values: the score of every token, of all responses in a row.
    """
    edges = np.cumsum([len(one) for one in truth])[:-1]
    config = context.config
    ranking = rank(np.split(values, edges), truth, config["replicates"], config["seed"])
    return np.stack(
        [
            np.append(ranking.auroc, ranking.auroc_replicates),
            np.append(ranking.average_precision, ranking.average_precision_replicates),
        ]
    ).astype(np.float32)
