"""Attention over packed rows on a CPU, part by part, without most of what is masked.

Under a mask, causal or not, PyTorch's kernel for CPUs computes all length² weights of a row. Of a
row [prompt | chosen | rejected] 55 % are needed if its parts are equal: each part's queries see the
prompt and their own part alone. Long parts are cut into blocks of queries, which see no later keys.

The mask of a batch carries its parts to the kernel: models pass it on without a look at it. What
else is done with it sees an ordinary tensor.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sparsepo.batches.pack import PADDING, PROMPT
from sparsepo.types import PackedBatch

SHORTEST = 192
"""Tokens of a row from which on this is faster than one call under a mask."""


_QUERIES = 128
"""Queries of a block, at most. Fewer leave out more of what is masked; each call has its cost."""


class Block(NamedTuple):
    """Queries of a row, and the keys that they see: a prompt, and their own part up to the last."""

    queries: tuple[int, int]
    """First cell, and the one after the last."""
    prompt: tuple[int, int]
    own: tuple[int, int]

    @property
    def edge(self) -> tuple[int, int]:
        """Number of queries, and of the keys before the first of them."""
        queries = self.queries[1] - self.queries[0]
        keys = self.prompt[1] - self.prompt[0] + self.own[1] - self.own[0]
        return queries, keys - queries


class SegmentMask(Tensor):
    """An additive mask that knows the parts of its rows."""

    blocks: tuple[tuple[Block, slice], ...]
    """What is computed, each with its rows."""
    edges: dict[tuple[int, int], Tensor]
    """The masks of blocks, by `Block.edge`."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Attend part by part; do anything else with the tensor alone."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func is functional.scaled_dot_product_attention:
                found = _attend(*args, **kwargs)
                if found is not None:
                    return found
            return func(*args, **kwargs)


def with_segments(mask: Float[Tensor, "rows 1 L L"], batch: PackedBatch) -> Tensor:
    """Return a mask that has the attention of its batch computed part by part.

    Args:
        mask: the batch's additive mask, without a window.
        batch: the packed batch, on a CPU.

    Returns:
        The same mask; as it is if rows are too short to gain anything.
    """
    if mask.shape[-1] < SHORTEST or not _has_kernels():
        return mask
    found = mask.as_subclass(SegmentMask)
    rows = list(map(_row, batch.pair_index.tolist(), batch.part.tolist()))
    # Rows with the same parts are computed together.
    placed = [(row, slice(i, i + 1)) for i, row in enumerate(rows)]
    if len(set(rows)) == 1:
        placed = [(rows[0], slice(None))]
    found.blocks = tuple((block, place) for row, place in placed for block in row)
    kinds = {block.edge for block, _ in found.blocks}
    found.edges = {kind: _edge(*kind, mask.dtype) for kind in kinds}
    return found


def _row(pairs: list[int], parts: list[int]) -> tuple[Block, ...]:
    """Return the blocks of one row."""
    blocks: list[Block] = []
    end, prompt = 0, (0, 0)
    for (pair, part), cells in groupby(zip(pairs, parts, strict=True)):
        start, end = end, end + sum(1 for _ in cells)
        if pair == PADDING:
            continue
        if part == PROMPT:
            prompt = (start, end)
        seen = (start, start) if part == PROMPT else prompt
        count = -(-(end - start) // _QUERIES)
        cuts = [start + (end - start) * i // count for i in range(count + 1)]
        blocks += [Block((a, b), seen, (start, b)) for a, b in pairwise(cuts)]
    return tuple(blocks)


def _edge(queries: int, before: int, dtype: torch.dtype) -> Float[Tensor, "queries keys"]:
    mask = torch.full((queries, queries), -torch.inf, dtype=dtype).triu_(1)
    return functional.pad(mask, (before, 0))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "rows heads L d"] | None:
    """Return the attention of all rows; None if this is not the call that the mask was made for."""
    if not isinstance(attn_mask, SegmentMask) or dropout_p or is_causal:
        return None
    if query.shape != key.shape or query.shape != value.shape or query.ndim != 4:
        return None
    if query.shape[2] != attn_mask.size(-1) or query.dtype != attn_mask.dtype or enable_gqa:
        return None
    if torch.is_autocast_enabled("cpu"):
        return None
    found: Tensor = _BlockAttention.apply(
        query, key, value, attn_mask.blocks, attn_mask.edges, scale
    )
    return found


class _BlockAttention(torch.autograd.Function):
    """Calls PyTorch's own kernel for each block of queries."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: tuple[tuple[Block, slice], ...],
        edges: dict[tuple[int, int], Tensor],
        scale: float | None,
    ) -> Tensor:
        # In the order in which models read it: rows × length × heads. Nothing reads padding.
        found = torch.zeros_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        sums = []
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        for block, place in blocks:
            part = slice(*block.queries)
            states = _states(query, key, value, block, place)
            # The logarithms of the weights' sums are what the backward pass reads.
            attended, log_sum = attend(*states, attn_mask=edges[block.edge], scale=scale)
            found[place, part] = attended.transpose(1, 2)
            sums.append(log_sum)
        result = found.transpose(1, 2)
        ctx.save_for_backward(query, key, value, result, *sums)
        ctx.blocks, ctx.edges, ctx.scale = blocks, edges, scale
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, result, *sums = ctx.saved_tensors
        grads = [
            torch.zeros_like(states.transpose(1, 2), memory_format=torch.contiguous_format)
            for states in (query, key, value)
        ]
        of_query, *of_keys = (states.transpose(1, 2) for states in grads)
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        for (block, place), log_sum in zip(ctx.blocks, sums, strict=True):
            part = slice(*block.queries)
            own, *seen = attend(
                grad[place, :, part],
                *_states(query, key, value, block, place),
                result[place, :, part],
                log_sum,
                0.0,
                False,
                attn_mask=ctx.edges[block.edge],
                scale=ctx.scale,
            )
            of_query[place, :, part] = own
            prompt = block.prompt[1] - block.prompt[0]
            for states, found in zip(of_keys, seen, strict=True):
                if prompt:
                    states[place, :, slice(*block.prompt)] += found[:, :, :prompt]
                states[place, :, slice(*block.own)] += found[:, :, prompt:]
        return of_query, *of_keys, None, None, None


def _states(
    query: Tensor, key: Tensor, value: Tensor, block: Block, place: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries of a block, and the keys and values that they see."""
    (start, end), own = block.prompt, block.own
    seen = []
    for states in (key[place], value[place]):
        if start == end or end == own[0]:
            seen.append(states[:, :, start : own[1]])
        else:
            seen.append(torch.cat([states[:, :, start:end], states[:, :, slice(*own)]], dim=2))
    return query[place, :, slice(*block.queries)], seen[0], seen[1]


def _has_kernels() -> bool:
    """Return whether this torch has the kernels, which it may rename."""
    name = "_scaled_dot_product_flash_attention_for_cpu"
    return hasattr(torch.ops.aten, name) and hasattr(torch.ops.aten, f"{name}_backward")
