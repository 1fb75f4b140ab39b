"""The stage that measures how well given masks rank the decisive tokens."""

from __future__ import annotations

import json

import numpy as np

from harness.domains.common.work.files import TOKEN_MASKS
from harness.domains.sentiment.work.common import LABELS
from harness.domains.sentiment.work.rankings import RANKINGS, decisive_tokens, ranking_of
from harness.graph.stages import StageContext
from sparsepo.data.token_masks import read_token_masks


def rank_masks(context: StageContext) -> None:
    """Write rankings.npz as `rank_tokens` does, for masks that were given: `0/reward_mask`.

    Configuration: see `rank_tokens`. Inputs: "masks" and "labels".
    """
    masks = read_token_masks(context.inputs["masks"] / TOKEN_MASKS)
    truth = decisive_tokens(context)
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    # The chosen response of a pair is before its rejected one.
    pair_ids = [one["pair_id"] for one in labels["responses"]]
    values = [masks[pair_id].reward_mask[place % 2] for place, pair_id in enumerate(pair_ids)]
    if [len(one) for one in values] != [len(one) for one in truth]:
        raise ValueError("the masks are not those of the tokens that have labels")
    found = {"0/reward_mask": ranking_of(context, truth, np.concatenate(values))}
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)
