"""Who may look at whom in a packed batch, in the form that a model's attention kernel takes.

Eager and SDPA attention take a dense additive mask of rows × length × length. FlexAttention takes
the same rule as a function with a table of the 128 × 128 blocks in which it allows anything, and
skips the others: a long row of many pairs then costs what its pairs cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.utils._triton import has_triton
from transformers import PreTrainedModel

from sparsepo.batches.pack import PADDING, PROMPT
from sparsepo.errors import UserError
from sparsepo.types import PackedBatch

Attention = Literal["auto", "eager", "sdpa", "flex_attention"]

FLEX = "flex_attention"

AttentionMask = Tensor | BlockMask | dict[str, Tensor | BlockMask]
"""One mask for every layer, or one per kind of layer, by transformers' names for them."""

_SMALLEST_FLEX_HEAD = 16
"""Features of a head, the least that FlexAttention's CUDA kernels take."""

_COMPILED_SHAPES = 64
"""Kernels that may be compiled before FlexAttention falls back to materialising all scores."""


def attention_mask_for(model: PreTrainedModel, batch: PackedBatch) -> AttentionMask:
    """Return the mask under which a model runs a packed batch, as its attention takes it.

    On a CPU FlexAttention has no backward pass (torch 2.13): gradients there need another kernel.

    Args:
        model: a transformers model, without adapters around it.
        batch: the packed batch, on the model's device.

    Raises:
        UserError: the model's attention takes no mask of this kind.
    """
    config = model.config
    name = str(config._attn_implementation or "eager")
    if name not in ("eager", "sdpa", FLEX):
        raise UserError(
            f"Packed pairs need an attention that takes a block mask, and {name} does not; set "
            "attention to sdpa or flex_attention."
        )

    device, dtype = batch.input_ids.device.type, model.dtype
    if torch.is_autocast_enabled(device):
        # A kernel that casts the mask to fewer bits would turn a wider type's minimum into −inf.
        dtype = torch.get_autocast_dtype(device)

    def make(window: int | None) -> Tensor | BlockMask:
        if name == FLEX:
            return _flex_mask(batch, window)
        return block_mask(batch, dtype, window)

    window = getattr(config, "sliding_window", None)
    if window is None or batch.input_ids.shape[1] <= window:
        return make(None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if kinds == {"sliding_attention"}:
        return make(window)
    return {kind: make(window if kind == "sliding_attention" else None) for kind in kinds}


def _visible(
    pairs: tuple[Tensor, Tensor],
    parts: tuple[Tensor, Tensor],
    cells: tuple[Tensor, Tensor],
    positions: tuple[Tensor, Tensor],
    window: int | None,
) -> Tensor:
    """Whether a query may look at a key; each argument is (the query's, the key's), broadcast."""
    same_pair = (pairs[0] == pairs[1]) & (pairs[1] != PADDING)
    allowed = same_pair & (cells[1] <= cells[0]) & ((parts[1] == PROMPT) | (parts[1] == parts[0]))
    if window is not None:
        allowed = allowed & (positions[1] > positions[0] - window)
    return allowed


def allowed_keys(batch: PackedBatch, window: int | None = None) -> Bool[Tensor, "rows L L"]:
    """Return which keys (last) each query (second) may look at.

    Args:
        batch: the packed batch.
        window: how many tokens of its own sequence a token sees at most, itself included.
    """
    cell = torch.arange(batch.input_ids.shape[1], device=batch.part.device)[None]

    def both(table: Tensor) -> tuple[Tensor, Tensor]:
        return table[:, :, None], table[:, None, :]

    return _visible(
        both(batch.pair_index), both(batch.part), both(cell), both(batch.position_ids), window
    )


def block_mask(
    batch: PackedBatch, dtype: torch.dtype, window: int | None = None
) -> Float[Tensor, "rows 1 length length"]:
    """Return the additive attention mask of a batch: 0 where a token may look, else the minimum.

    A finite minimum rather than −inf keeps fully masked padding rows free of NaN, and a float mask
    rather than a boolean one is what eager attention in transformers adds correctly.

    Args:
        batch: the packed batch.
        dtype: the model's dtype.
        window: see `allowed_keys`.
    """
    allowed = allowed_keys(batch, window)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def _flex_mask(batch: PackedBatch, window: int | None) -> BlockMask:
    pair_index, part, position = batch.pair_index, batch.part, batch.position_ids

    def rule(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        def both(table: Tensor) -> tuple[Tensor, Tensor]:
            return table[row, query], table[row, key]

        return _visible(both(pair_index), both(part), (query, key), both(position), window)

    # Rows need not be whole blocks: the kernels bound the last one by the length.
    rows, length = batch.input_ids.shape
    mask: BlockMask = create_block_mask(rule, rows, None, length, length, device=part.device)
    return mask


def use_attention(
    model: PreTrainedModel, wanted: Attention, device: torch.device, trained: bool = True
) -> None:
    """Give a model the attention implementation that it is to run packed batches with.

    Args:
        model: a transformers model, without adapters around it; changed in place.
        wanted: an implementation by name; "auto" is FlexAttention on CUDA where the model can do
            it, and else what the model has.
        device: where it will run.
        trained: whether gradients are asked of it.

    Raises:
        UserError: the model, or the device, cannot do what is wanted.
    """
    if wanted == "auto":
        if device.type != "cuda" or _flex_obstacle(model, device, trained) is not None:
            return
        wanted = "flex_attention"
    if wanted == "flex_attention":
        obstacle = _flex_obstacle(model, device, trained)
        if obstacle is not None:
            raise UserError(f"attention=flex_attention cannot be used: {obstacle}; take auto.")
        # Gradients or none, one row or several, one block or several: each is a kernel of its own,
        # for policy and reference, more than torch's default of 8 allows.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _COMPILED_SHAPES)
    elif wanted == "sdpa" and not model._supports_sdpa:
        name = model.config.model_type
        raise UserError(f"{name} has no sdpa attention in transformers; take auto.")
    if model.config._attn_implementation != wanted:
        model.set_attn_implementation(wanted)


def attention_of(models: Iterable[PreTrainedModel]) -> WeakKeyDictionary[PreTrainedModel, str]:
    """Return the attention implementation of each model, without adapters around it.

    The models are not kept alive by it.
    """
    return WeakKeyDictionary({model: str(model.config._attn_implementation) for model in models})


def restore_attention(implementations: Mapping[PreTrainedModel, str]) -> None:
    """Give models the attention implementations that `attention_of` returned."""
    for model, name in implementations.items():
        if model.config._attn_implementation != name:
            model.set_attn_implementation(name)


def _flex_obstacle(model: PreTrainedModel, device: torch.device, trained: bool) -> str | None:
    """Return why a model cannot run or train with FlexAttention on a device; None if it can."""
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dropouts = (getattr(module, "attention_dropout", None) for module in model.modules())
    if not model._supports_flex_attn:
        return f"{config.model_type} has no FlexAttention in transformers"
    if trained and device.type == "cpu":
        return "FlexAttention has no gradients on a CPU"
    if device.type == "cuda" and not has_triton():
        return "FlexAttention needs Triton, which is not installed"
    if device.type == "cuda" and head < _SMALLEST_FLEX_HEAD:
        return f"the heads of this model are smaller than {_SMALLEST_FLEX_HEAD} features"
    if trained and any(isinstance(value, float) and value > 0 for value in dropouts):
        return "FlexAttention knows no attention dropout (disable_dropout=true)"
    return None
