"""The stage that measures a trained model's mask on held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from harness.domains.common.work.files import read_pairs_file, write_json
from harness.domains.common.work.token_maps import maps_of_run
from harness.graph.stages import StageContext
from sparsepo.analysis.maps import PairMap, ResponseMap
from sparsepo.types import PreferencePair
from tasks.dialogue.decisive_tokens import decisive_tokens, is_known
from tasks.metrics.ranking import rank

MASKS = "masks.json"
RANKING = "ranking.npz"


def measure_masks(context: StageContext) -> None:
    """Write masks.json and, where the decisive tokens are known, ranking.npz.

    masks.json has, for each pair, `zeros` (share of response tokens whose reward mask is 0, mean of
    both responses) and `margins`: chosen minus rejected implicit reward when the smallest values of
    the masks are set to 0, by percentage of all values; and in `known` the numbers of decisive
    tokens, tokens and pairs that were ranked. ranking.npz has `auroc`, (1 + R): how well the reward
    mask ranks the decisive tokens, then its bootstrap replicates over pairs.

    Configuration: `pairs` (cap), `pruned` (percentages), `max_length`, `max_prompt_length`,
    `batch_size`, `replicates`, `seed`, `device`, `model` (hub id of the reference, or None).
    Inputs: "run", "pairs", and "model" unless it comes from outside.
    """
    config = context.config
    pairs = read_pairs_file(context.inputs["pairs"] / "test.jsonl")[: config["pairs"]]
    maps = maps_of_run(context, pairs).pairs
    margins = {str(share): pruned_margins(maps, share) for share in (0, *config["pruned"])}
    measured = [
        {
            "pair_id": one.pair_id,
            "zeros": float(np.mean([_zeros(one.chosen), _zeros(one.rejected)])),
            "margins": {share: values[place] for share, values in margins.items()},
        }
        for place, one in enumerate(maps)
    ]
    by_id = {pair.pair_id: pair for pair in pairs}
    known = [one for one in maps if is_known(_messages(by_id[one.pair_id].prompt))]
    labels = [_labels(by_id[one.pair_id], one) for one in known]
    decisive = sum(map(sum, labels))
    counts = {"decisive": decisive, "tokens": sum(map(len, labels)), "pairs": len(labels)}
    write_json({"pairs": measured, "known": counts}, context.work / MASKS)
    if 0 < decisive < counts["tokens"]:
        values = [_mask(one.chosen) + _mask(one.rejected) for one in known]
        ranking = rank(values, labels, config["replicates"], config["seed"])
        auroc = np.append(ranking.auroc, ranking.auroc_replicates).astype(np.float32)
        np.savez_compressed(context.work / RANKING, allow_pickle=False, auroc=auroc)


def pruned_margins(maps: Sequence[PairMap], share: float) -> list[float]:
    """Return the margins of pairs with the smallest values of the masks set to 0.

    A margin is Σ_t β(m_u r + m_d k) of the chosen minus that of the rejected response. Each mask
    loses ⌊share · n / 100⌋ of its n values over all pairs, zeros included, the smallest first; of
    equal values, those of earlier tokens.

    Args:
        maps: token maps of a masked method.
        share: percentage of the values.
    """
    responses = [response for one in maps for response in (one.chosen, one.rejected)]
    edges = np.cumsum([len(response.token_ids) for response in responses])[:-1]
    total = np.zeros(sum(len(response.token_ids) for response in responses))
    for mask, weighted in (("reward_mask", "masked_rewards"), ("kl_mask", "masked_kl")):
        if getattr(responses[0], mask) is None:
            continue
        values, terms = (
            np.concatenate([getattr(response, name) for response in responses])
            for name in (mask, weighted)
        )
        smallest = np.argsort(values, kind="stable")[: int(share * values.size / 100)]
        terms[smallest] = 0.0
        total += terms
    rewards = np.array([part.sum() for part in np.split(total, edges)])
    margins: list[float] = (rewards[0::2] - rewards[1::2]).tolist()
    return margins


def _labels(pair: PreferencePair, found: PairMap) -> list[bool]:
    """Return which tokens of the chosen, then of the rejected response are decisive."""
    labels: list[bool] = []
    for content, response in ((pair.chosen, found.chosen), (pair.rejected, found.rejected)):
        ends = accumulate(len(text) for text in response.tokens)
        labels += decisive_tokens(_messages(pair.prompt), _messages(content)[-1]["content"], ends)
    return labels


def _messages(content: Any) -> Any:
    """Return chat messages, which dialogues always have."""
    assert not isinstance(content, str)
    return content


def _mask(response: ResponseMap) -> list[float]:
    assert response.reward_mask is not None
    return list(response.reward_mask)


def _zeros(response: ResponseMap) -> float:
    return float(np.mean(np.asarray(_mask(response)) == 0.0))
