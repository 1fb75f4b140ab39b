"""Selects the pairs for the start check: short ones of different lengths, and a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel

from sparsepo.batches.pack import packed_length
from sparsepo.types import TokenizedPair

PROBE_PAIRS = 16
"""Pairs at the beginning of the training set among which the short ones are chosen."""

LIMITS = ((10, 8), (5, 4))
"""Tokens of prompt and response kept of each short pair; both pairs share one row."""

RUN_SHARE = 0.01
"""Maximum cost of the longest pair, as a share of the run's work, beyond FREE_OPERATIONS."""

FREE_OPERATIONS = {"cpu": 2e10, "cuda": 1e13}
"""Number of multiplications and additions that take less than a second, by device type."""


def short_pairs(pairs: Sequence[TokenizedPair]) -> list[TokenizedPair]:
    """Return two short pairs of different lengths, cut from the first pairs of a training set.

    The only response of an unpaired row comes first, as the chosen one.
    """
    first = sorted(pairs[:PROBE_PAIRS], key=packed_length)
    chosen = [_chosen_first(pair) for pair in (first[-1], first[0])]
    return [
        replace(
            pair,
            pair_id=f"{pair.pair_id}-{number}",
            prompt_ids=pair.prompt_ids[-prompt:],
            chosen_ids=pair.chosen_ids[:response],
            # The two responses rarely have the same length.
            rejected_ids=pair.rejected_ids[: response + 2],
        )
        for number, (pair, (prompt, response)) in enumerate(zip(chosen, LIMITS, strict=True))
    ]


def swap_responses(pair: TokenizedPair) -> TokenizedPair:
    """Return a pair with chosen and rejected response swapped, an unpaired row unchanged."""
    if pair.label is not None:
        return pair
    return replace(pair, chosen_ids=pair.rejected_ids, rejected_ids=pair.chosen_ids)


def _chosen_first(pair: TokenizedPair) -> TokenizedPair:
    if pair.label is not False:
        return pair
    return replace(pair, chosen_ids=pair.rejected_ids, rejected_ids=[], label=True)


def longest_pair(
    pairs: Sequence[TokenizedPair], model: PreTrainedModel, epochs: float
) -> TokenizedPair | None:
    """Return the longest pair, truncated to an affordable length; None if it is short.

    The effects of a window, or of positions beyond those that a model was trained on, appear only
    in long sequences.

    Args:
        pairs: the training pairs.
        model: the model that will run on the pair.
        epochs: number of training epochs.
    """
    lengths = [packed_length(pair) for pair in pairs]
    longest = max(range(len(pairs)), key=lengths.__getitem__)
    # One multiplication and one addition per weight and token, once alone and once packed; training
    # on a pair takes twice as much.
    free = FREE_OPERATIONS.get(model.device.type, FREE_OPERATIONS["cuda"])
    in_any_run = free / (4 * max(1, model.num_parameters()))
    room = int(max(in_any_run, RUN_SHARE * epochs * sum(lengths)))
    pair = _chosen_first(pairs[longest])
    if lengths[longest] > room:
        share = room / lengths[longest]
        prompt, chosen, rejected = (
            max(1, int(share * len(ids)))
            for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
        )
        pair = replace(
            pair,
            prompt_ids=pair.prompt_ids[-prompt:],
            chosen_ids=pair.chosen_ids[:chosen],
            rejected_ids=pair.rejected_ids[:rejected],
        )
    return pair if packed_length(pair) > sum(LIMITS[0]) + LIMITS[0][1] + 2 else None
