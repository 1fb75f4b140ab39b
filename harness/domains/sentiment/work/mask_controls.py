"""The stages with masks that no model has learned: shuffled ones, and the tokens that decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from transformers import AutoTokenizer

from harness.domains.common.work.files import TOKEN_MASKS, read_pairs_file, starting_model
from harness.domains.sentiment.work.common import SPLITS
from harness.domains.sentiment.work.labels import labelled_tokens
from harness.graph.stages import StageContext
from sparsepo.data.token_masks import TokenMask, Weights, read_token_masks, write_token_masks
from tasks.sentiment.rewards import VaderReward


def shuffle_masks(context: StageContext) -> None:
    """Write masks.jsonl: the values of the input "masks", shuffled within each response.

    Reward and KL mask of a response are shuffled alike. Configuration: `seed`.
    """
    masks = read_token_masks(context.inputs["masks"] / TOKEN_MASKS)
    generator = np.random.default_rng(context.config["seed"])
    shuffled = [shuffle(mask, generator) for mask in masks.values()]
    write_token_masks(shuffled, context.work / TOKEN_MASKS)


def shuffle(mask: TokenMask, generator: np.random.Generator) -> TokenMask:
    """Return a pair's masks with the values of each response in another order.

    Args:
        mask: of a pair.
        generator: draws one order for each response.
    """
    orders = [generator.permutation(len(values)) for values in mask.reward_mask]

    def reordered(weights: Weights) -> Weights:
        chosen, rejected = (
            [values[place] for place in order]
            for values, order in zip(weights, orders, strict=True)
        )
        return chosen, rejected

    return replace(
        mask,
        reward_mask=reordered(mask.reward_mask),
        kl_mask=None if mask.kl_mask is None else reordered(mask.kl_mask),
    )


def oracle_masks(context: StageContext) -> None:
    """Write masks.jsonl: 1 on the decisive tokens of all pairs, 0 on the others.

    Configuration: `max_length`, `max_prompt_length`, `model` (a hub id, or None). Inputs: "pairs",
    and "model", for its tokenizer, unless it comes from outside.
    """
    tokenizer = AutoTokenizer.from_pretrained(starting_model(context))
    masks = []
    for split in SPLITS:
        pairs = read_pairs_file(context.inputs["pairs"] / f"{split}.jsonl")
        found = labelled_tokens(pairs, tokenizer, VaderReward(), context.config)
        for pair_id, sides in found.items():
            chosen, rejected = ([float(label) for label in labels] for _, labels in sides)
            masks.append(TokenMask(pair_id, (chosen, rejected)))
    write_token_masks(masks, context.work / TOKEN_MASKS)
