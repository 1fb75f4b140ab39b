"""Token ids → a batch of rows: prompts shared by both responses, or one row per response.

The block mask makes both forms the same computation: a token sees the tokens before it in its own
prompt and its own response, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.types import PackedBatch, TokenizedPair

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1


def pack_pairs(
    pairs: Sequence[TokenizedPair], *, share_prompt: bool = True, rejected: bool = True
) -> PackedBatch:
    """Return pairs as one batch, a row [prompt | chosen | rejected] per pair.

    Args:
        pairs: at least one pair; prompts and responses hold at least one token each.
        share_prompt: False gives the plain form instead, with a row [prompt | response] for each
            response; it computes the same and is the reference in tests.
        rejected: False leaves the rejected responses out, for methods that do not read them.

    Returns:
        The batch, on the CPU, padded to its longest row.

    Raises:
        ValueError: there is no pair, or a prompt or response without tokens.
    """
    if not pairs:
        raise ValueError("a batch needs at least one pair")
    rows: list[list[tuple[int, int, list[int]]]] = []
    for index, pair in enumerate(pairs):
        responses = [(CHOSEN, pair.chosen_ids)]
        if rejected:
            responses.append((REJECTED, pair.rejected_ids))
        if not pair.prompt_ids or not all(ids for _, ids in responses):
            raise ValueError(f"pair {pair.pair_id} has a prompt or response without tokens")
        prompt = (index, PROMPT, pair.prompt_ids)
        parts = [(index, part, ids) for part, ids in responses]
        rows.extend([[prompt, *parts]] if share_prompt else [[prompt, part] for part in parts])
    length = max(sum(len(ids) for _, _, ids in row) for row in rows)
    tokens = max(len(ids) for row in rows for _, part, ids in row if part in (CHOSEN, REJECTED))
    sides = 2 if rejected else 1
    shape = (len(rows), length)
    input_ids = torch.zeros(shape, dtype=torch.long)
    position_ids = torch.zeros(shape, dtype=torch.long)
    pair_index = torch.full(shape, PADDING)
    part_index = torch.full(shape, PADDING)
    response_mask = torch.zeros((sides, len(pairs), tokens), dtype=torch.bool)
    found: dict[int, list[tuple[int, int, int]]] = {CHOSEN: [], REJECTED: []}
    for row_number, row in enumerate(rows):
        start = 0
        prompt_length = len(row[0][2])
        for index, part, ids in row:
            end = start + len(ids)
            first = 0 if part == PROMPT else prompt_length
            input_ids[row_number, start:end] = torch.tensor(ids)
            position_ids[row_number, start:end] = torch.arange(first, first + len(ids))
            pair_index[row_number, start:end] = index
            part_index[row_number, start:end] = part
            if part != PROMPT:
                side = part - CHOSEN
                response_mask[side, index, : len(ids)] = True
                offset = row_number * length
                for token, target in enumerate(ids):
                    # The first response token is predicted from the last prompt token.
                    source = prompt_length - 1 if token == 0 else start + token - 1
                    slot = (side * len(pairs) + index) * tokens + token
                    found[part].append((offset + source, target, slot))
            start = end
    table = torch.tensor(found[CHOSEN] + found[REJECTED], dtype=torch.long)
    return PackedBatch(
        pair_ids=[pair.pair_id for pair in pairs],
        input_ids=input_ids,
        position_ids=position_ids,
        pair_index=pair_index,
        part=part_index,
        sources=table[:, 0].contiguous(),
        targets=table[:, 1].contiguous(),
        slots=table[:, 2].contiguous(),
        response_mask=response_mask,
    )


def block_mask(batch: PackedBatch, dtype: torch.dtype) -> Float[Tensor, "rows 1 length length"]:
    """Return the additive attention mask of a batch: 0 where a token may look, else the minimum.

    A finite minimum rather than −inf keeps fully masked padding rows free of NaN, and a float mask
    rather than a boolean one is what eager attention in transformers adds correctly.

    Args:
        batch: the packed batch.
        dtype: the model's dtype.
    """
    length = batch.input_ids.shape[1]
    query_pair, key_pair = batch.pair_index[:, :, None], batch.pair_index[:, None, :]
    query_part, key_part = batch.part[:, :, None], batch.part[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=batch.part.device).tril()
    allowed = (query_pair == key_pair) & (key_pair != PADDING) & causal
    allowed = allowed & ((key_part == PROMPT) | (key_part == query_part))
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def to_responses(
    values: Float[Tensor, " N"], batch: PackedBatch
) -> Float[Tensor, "responses pairs tokens"]:
    """Return per-token values in the (responses, pairs, tokens) layout, zero on padding.

    Args:
        values: one value per response token, in the batch's order, (N,).
        batch: the batch they belong to.
    """
    flat = values.new_zeros(batch.response_mask.numel())
    return flat.index_put((batch.slots,), values).view(batch.response_mask.shape)
