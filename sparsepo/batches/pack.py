"""Packs token ids into rows: several pairs per row, each with its prompt stored once.

The attention mask (attention.py) makes all layouts equivalent: a token attends only to preceding
tokens of its own prompt and response. Layouts are therefore chosen only for little padding, and
results are returned in the order of the given pairs.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.types import PackedBatch, TokenizedPair

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1

Rows = list[list[int]]
"""Indices of the sequences in each row."""


def packed_length(pair: TokenizedPair, rejected: bool = True) -> int:
    """Return the length of a pair in a row: prompt, chosen and rejected response, in tokens."""
    responses = len(pair.chosen_ids) + (len(pair.rejected_ids) if rejected else 0)
    return len(pair.prompt_ids) + responses


def cells(rows: Rows, lengths: Sequence[int]) -> int:
    """Return rows × length of the rectangle that contains these rows, including padding."""
    return len(rows) * max(sum(lengths[item] for item in row) for row in rows)


def plan_rows(lengths: Sequence[int], tokens_per_row: int | None = None) -> Rows:
    """Return which sequences share a row, for a rectangle with few cells.

    Best-fit decreasing: sequences in descending length, each into the fullest row with enough space
    (Johnson, Demers, Ullman, Garey & Graham 1974, doi:10.1137/0203025). If rows may be longer than
    the longest sequence, they are levelled afterwards if this makes the rectangle smaller. The
    result depends only on the lengths, and is never larger than with one sequence per row.

    Args:
        lengths: tokens of each sequence, at least one.
        tokens_per_row: maximum length of a row; the length of the longest sequence is used if it is
            larger, or if this is None.

    Returns:
        The rows; sequences are in ascending order within a row, and rows by their first sequence.
    """
    longest = max(lengths)
    budget = max(longest, tokens_per_row or longest)
    plans = [_best_fit(lengths, longest)]
    if budget > longest:
        fitted = _best_fit(lengths, budget)
        plans += [fitted, level(lengths, len(fitted))]
    best = min(plans, key=lambda rows: cells(rows, lengths))
    return sorted(sorted(row) for row in best)


def _best_fit(lengths: Sequence[int], capacity: int) -> Rows:
    rows: Rows = []
    spaces: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for item in longest_first(lengths):
        length = lengths[item]
        place = bisect_left(spaces, (length, -1))
        if place == len(spaces):
            space, row = capacity, len(rows)
            rows.append([])
        else:
            space, row = spaces.pop(place)
        rows[row].append(item)
        insort(spaces, (space - length, row))
    return rows


def level(lengths: Sequence[int], count: int) -> Rows:
    """Return `count` rows of about equal length.

    The longest sequence is placed first, each into the shortest row (Graham 1969,
    doi:10.1137/0117039): the longest row is at most 4/3 of the optimum.

    Args:
        lengths: tokens of each sequence, at least `count` sequences of at least one token.
        count: number of rows, none of which is empty.
    """
    rows: Rows = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    for item in longest_first(lengths):
        tokens, row = heapq.heappop(filled)
        rows[row].append(item)
        heapq.heappush(filled, (tokens + lengths[item], row))
    return rows


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Return the indices of items by descending length, with ties in the given order."""
    return sorted(range(len(lengths)), key=lambda item: -lengths[item])


def pack_pairs(
    pairs: Sequence[TokenizedPair],
    *,
    tokens_per_row: int | None = None,
    share_prompt: bool = True,
    rejected: bool = True,
) -> PackedBatch:
    """Return pairs as one batch, with [prompt | chosen | rejected] of several pairs per row.

    Args:
        pairs: at least one pair; each prompt and response has at least one token, except the
            response that an unpaired row lacks.
        tokens_per_row: maximum length of a row, see `plan_rows`; None uses the longest pair's.
        share_prompt: False gives the layout of the reference implementation instead, with a row
            [prompt | response] for each response; the results are the same.
        rejected: False leaves out the rejected responses, for methods that do not read them.

    Returns:
        The batch, on the CPU, padded to its longest row. Response tokens are ordered by side, pair
        and token, regardless of their rows.

    Raises:
        ValueError: there are no pairs, or a prompt or response has no tokens.
    """
    if not pairs:
        raise ValueError("A batch needs at least one pair; pass a non-empty list.")
    parts = (CHOSEN, REJECTED) if rejected else (CHOSEN,)
    responses = [(pair.chosen_ids, pair.rejected_ids)[: len(parts)] for pair in pairs]
    for pair, own in zip(pairs, responses, strict=True):
        # An unpaired row has one response.
        needed = [
            ids for side, ids in zip((True, False), own, strict=False) if pair.label in (None, side)
        ]
        if not pair.prompt_ids or not needed or not all(needed):
            raise ValueError(
                f"Pair {pair.pair_id} has a prompt or response without tokens; remove the pair."
            )
    if share_prompt:
        plan = plan_rows([packed_length(pair, rejected) for pair in pairs], tokens_per_row)
        rows = [[(index, parts) for index in row] for row in plan]
    else:
        rows = [[(index, (part,))] for index in range(len(pairs)) for part in parts]

    # One entry per prompt or response, in row order.
    token_ids: list[list[int]] = []
    entries: list[tuple[int, ...]] = []
    ends = []
    for row, units in enumerate(rows):
        start = 0
        for index, unit_parts in units:
            prompt = pairs[index].prompt_ids
            last = start + len(prompt) - 1
            for part in (PROMPT, *unit_parts):
                ids = prompt if part == PROMPT else responses[index][part - CHOSEN]
                first = 0 if part == PROMPT else len(prompt)
                token_ids.append(ids)
                entries.append((row, start, index, part, first, last))
                start += len(ids)
        ends.append(start)
    shape = (len(rows), max(ends))
    sizes = np.fromiter(map(len, token_ids), dtype=np.int64)
    total = int(sizes.sum())
    ids_by_token = np.fromiter(chain.from_iterable(token_ids), dtype=np.int64, count=total)
    row, start, index, part, first, last = np.repeat(np.array(entries).T, sizes, axis=1)
    within = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    cell = row * shape[1] + start + within

    def laid_out(values: np.ndarray, padding: int) -> Tensor:
        table = np.full(shape, padding, dtype=np.int64)
        table.flat[cell] = values
        return torch.from_numpy(table)

    side = part - CHOSEN
    order = np.lexsort((within, index, side))
    order = order[side[order] >= 0]
    tokens = max(len(ids) for own in responses for ids in own)
    # The first response token is predicted from the last prompt token.
    predictor_index = np.where(within == 0, row * shape[1] + last, cell - 1)[order]
    stat_index = ((side * len(pairs) + index) * tokens + within)[order]
    response_mask = np.zeros((len(parts), len(pairs), tokens), dtype=np.bool_)
    response_mask.flat[stat_index] = True
    return PackedBatch(
        pair_ids=[pair.pair_id for pair in pairs],
        input_ids=laid_out(ids_by_token, 0),
        position_ids=laid_out(first + within, 0),
        pair_index=laid_out(index, PADDING),
        part=laid_out(part, PADDING),
        predictor_index=torch.from_numpy(predictor_index),
        targets=torch.from_numpy(ids_by_token[order]),
        stat_index=torch.from_numpy(stat_index),
        response_mask=torch.from_numpy(response_mask),
        scores=_scores(pairs, len(parts)),
        win_probability=_win_probabilities(pairs),
    )


def _scores(pairs: Sequence[TokenizedPair], sides: int) -> Float[Tensor, "responses pairs"] | None:
    given = [pair.scores for pair in pairs if pair.scores is not None]
    return torch.tensor(given).T[:sides] if len(given) == len(pairs) else None


def _win_probabilities(pairs: Sequence[TokenizedPair]) -> Float[Tensor, " pairs"] | None:
    given = [pair.win_probability for pair in pairs if pair.win_probability is not None]
    return torch.tensor(given) if len(given) == len(pairs) else None


def lay_out(
    rows: Sequence[tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]],
    batch: PackedBatch,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "responses pairs tokens"]:
    """Return values that are kept by pair in a batch's layout, on its device, zero on padding.

    Args:
        rows: for each pair of the batch one value per token of its chosen and rejected response.
        batch: the batch.
        dtype: of the result.
    """
    table = torch.zeros(batch.response_mask.shape, dtype=dtype)
    for place, sides in enumerate(rows):
        for side in range(len(table)):
            values = torch.as_tensor(sides[side], dtype=dtype)
            table[side, place, : len(values)] = values
    return table.to(batch.response_mask.device)


def to_responses(
    values: Float[Tensor, " N *features"], batch: PackedBatch
) -> Float[Tensor, "responses pairs tokens *features"]:
    """Return per-token values in the (responses, pairs, tokens) layout, zero on padding.

    Args:
        values: one value, or one vector, per response token, in the batch's order.
        batch: the batch they belong to.
    """
    features = values.shape[1:]
    flat = values.new_zeros(batch.response_mask.numel(), *features)
    return flat.index_put((batch.stat_index,), values).view(*batch.response_mask.shape, *features)
