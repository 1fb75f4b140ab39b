"""The stages that measure how well masks and token rewards rank the decisive tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from harness.domains.common.work.files import TOKEN_MASKS
from harness.domains.sentiment.work.common import LABELS, LENGTHS, TOKENS
from harness.graph.stages import StageContext
from sparsepo.data.token_masks import read_token_masks
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
    truth = _truth(context)
    with np.load(context.inputs["run"] / TOKENS) as tokens:
        if tokens[LENGTHS].tolist() != [len(one) for one in truth]:
            raise ValueError("the tokens that were evaluated are not those that have labels")
        scores = {name: np.abs(tokens[name]) for name in tokens.files if name != LENGTHS}
    found = {name: _ranked(context, truth, values) for name, values in scores.items()}
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def rank_masks(context: StageContext) -> None:
    """Write rankings.npz as `rank_tokens` does, for masks that were given: `0/reward_mask`.

    Configuration: see `rank_tokens`. Inputs: "masks" and "labels".
    """
    masks = read_token_masks(context.inputs["masks"] / TOKEN_MASKS)
    truth = _truth(context)
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    # The chosen response of a pair is before its rejected one.
    pair_ids = [one["pair_id"] for one in labels["responses"]]
    values = [masks[pair_id].reward_mask[place % 2] for place, pair_id in enumerate(pair_ids)]
    if [len(one) for one in values] != [len(one) for one in truth]:
        raise ValueError("the masks are not those of the tokens that have labels")
    found = {"0/reward_mask": _ranked(context, truth, np.concatenate(values))}
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def rank_baselines(context: StageContext) -> None:
    """Write rankings.npz as `rank_tokens` does, for scores that need no training.

    Configuration: see `rank_tokens`. Input: "labels". The scores are `expected`, the reference's
    expectation, and `random`, the mean over uniform draws; `counts` contains the numbers of
    decisive tokens, tokens and responses.
    """
    truth = _truth(context)
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    expected = np.concatenate([one["expected"] for one in labels["responses"]])
    generator = np.random.default_rng(context.config["seed"])
    draws = [_ranked(context, truth, generator.random(expected.size)) for _ in range(RANDOM_DRAWS)]
    found = {
        "expected": _ranked(context, truth, expected),
        "random": np.mean(draws, axis=0),
        "counts": np.array([sum(int(one.sum()) for one in truth), expected.size, len(truth)]),
    }
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def _truth(context: StageContext) -> list[Any]:
    """Return which tokens of each response are decisive."""
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    return [np.asarray(one["labels"], dtype=bool) for one in labels["responses"]]


def _ranked(context: StageContext, truth: list[Any], values: Any) -> Any:
    edges = np.cumsum([len(one) for one in truth])[:-1]
    config = context.config
    ranking = rank(np.split(values, edges), truth, config["replicates"], config["seed"])
    return np.stack(
        [
            np.append(ranking.auroc, ranking.auroc_replicates),
            np.append(ranking.average_precision, ranking.average_precision_replicates),
        ]
    ).astype(np.float32)
