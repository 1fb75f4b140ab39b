"""The attention mask of a packed batch, in the form that a model's attention kernel takes.

Eager and SDPA attention take a dense additive mask of rows × length × length. FlexAttention takes
the same rule as a function, with a table of the 128 × 128 blocks that are not fully masked, and
skips all others: a long row of many pairs then costs no more than its pairs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.utils._triton import has_triton
from transformers import PreTrainedModel

from sparsepo.batches.pack import PADDING, PROMPT
from sparsepo.batches.segments import with_segments
from sparsepo.errors import UserError
from sparsepo.types import PackedBatch

Attention = Literal["auto", "eager", "sdpa", "flex_attention"]

FLEX = "flex_attention"

AttentionMask = Tensor | BlockMask | dict[str, Tensor | BlockMask]
"""One mask for all layers, or one per layer type, by transformers' names."""

_SMALLEST_FLEX_HEAD = 16
"""Smallest head dimension that FlexAttention's CUDA kernels support."""

_KERNEL_OPTIONS = {"FORCE_USE_FLEX_ATTENTION": True}
"""What FlexAttention is asked for. For rows below 128 tokens it would take another kernel, which
cannot be compiled for grouped queries in torch 2.11 to 2.13 (its pull request 185349)."""

_COMPILED_SHAPES = 64
"""Number of compiled kernels after which FlexAttention falls back to materialising all scores."""


def attention_mask_for(model: PreTrainedModel, batch: PackedBatch) -> AttentionMask:
    """Return the mask with which a model runs a packed batch, in the form of its attention.

    FlexAttention has no backward pass on a CPU (torch 2.13): gradients there need another kernel.

    Args:
        model: a transformers model, without adapters around it.
        batch: the packed batch, on the model's device.

    Raises:
        UserError: the model's attention does not support such a mask.
    """
    config = model.config
    name = str(config._attn_implementation or "eager")
    if name not in ("eager", "sdpa", FLEX):
        raise UserError(
            f"Packed pairs need an attention that supports a block mask, but {name} does not; set "
            "attention to sdpa or flex_attention."
        )

    device, dtype = batch.input_ids.device.type, model.dtype
    if torch.is_autocast_enabled(device):
        # A kernel that casts the mask to a narrower type would turn its minimum into −inf.
        dtype = torch.get_autocast_dtype(device)

    def make(window: int | None) -> Tensor | BlockMask:
        if name == FLEX:
            return _flex_mask(batch, window)
        mask = block_mask(batch, dtype, window)
        if name == "sdpa" and device == "cpu" and window is None:
            return with_segments(mask, batch)
        return mask

    window = getattr(config, "sliding_window", None)
    if window is None or batch.input_ids.shape[1] <= window:
        return make(None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if kinds == {"sliding_attention"}:
        return make(window)
    return {kind: make(window if kind == "sliding_attention" else None) for kind in kinds}


def kernel_options_for(model: PreTrainedModel, mask: AttentionMask) -> dict[str, Any]:
    """Return further arguments of a model's body for a mask; none but for FlexAttention.

    Args:
        model: a transformers model, without adapters around it.
        mask: as returned by `attention_mask_for`.
    """
    masks = mask.values() if isinstance(mask, dict) else [mask]
    if not any(isinstance(one, BlockMask) for one in masks):
        return {}
    body: Any = model.base_model
    parameters = inspect.signature(body.forward).parameters.values()
    # A body that takes no further arguments passes none on to its attention either.
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return {}
    return {"kernel_options": dict(_KERNEL_OPTIONS)}


def _visible(
    pairs: tuple[Tensor, Tensor],
    parts: tuple[Tensor, Tensor],
    cells: tuple[Tensor, Tensor],
    positions: tuple[Tensor, Tensor],
    window: int | None,
) -> Tensor:
    """Return whether a query may attend to a key; each argument is (query's, key's), broadcast."""
    same_pair = (pairs[0] == pairs[1]) & (pairs[1] != PADDING)
    allowed = same_pair & (cells[1] <= cells[0]) & ((parts[1] == PROMPT) | (parts[1] == parts[0]))
    if window is not None:
        allowed = allowed & (positions[1] > positions[0] - window)
    return allowed


def allowed_keys(batch: PackedBatch, window: int | None = None) -> Bool[Tensor, "rows L L"]:
    """Return which keys (last dimension) each query (second dimension) may attend to.

    Args:
        batch: the packed batch.
        window: maximum number of tokens of its own sequence that a token attends to, including
            itself.
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
    """Return the additive attention mask of a batch: 0 if attention is allowed, else the minimum.

    A finite minimum instead of −inf avoids NaN in fully masked padding rows, and a float mask
    instead of a boolean one is required by eager attention in transformers, which adds it.

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

    # Rows need not be a multiple of the block size: the kernels limit the last block to the length.
    rows, length = batch.input_ids.shape
    mask: BlockMask = create_block_mask(rule, rows, None, length, length, device=part.device)
    return mask


def use_attention(
    model: PreTrainedModel, wanted: Attention, device: torch.device, trained: bool = True
) -> None:
    """Set the attention implementation with which a model runs packed batches.

    Args:
        model: a transformers model, without adapters around it; changed in place.
        wanted: the name of an implementation; "auto" uses FlexAttention on CUDA if the model
            supports it, and otherwise keeps the model's implementation.
        device: the device that the model will run on.
        trained: whether gradients are needed.

    Raises:
        UserError: the model or the device does not support the implementation.
    """
    if wanted == "auto":
        if device.type != "cuda" or _flex_obstacle(model, device, trained) is not None:
            return
        wanted = "flex_attention"
    if wanted == "flex_attention":
        obstacle = _flex_obstacle(model, device, trained)
        if obstacle is not None:
            raise UserError(
                f"attention=flex_attention cannot be used: {obstacle}; set attention=auto."
            )
        # With or without gradients, one or several rows, one or several blocks: each combination is
        # a separate kernel, for policy and reference, and exceeds torch's default limit of 8.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _COMPILED_SHAPES)
    elif wanted == "sdpa" and not model._supports_sdpa:
        name = model.config.model_type
        raise UserError(f"{name} has no sdpa attention in transformers; set attention=auto.")
    if model.config._attn_implementation != wanted:
        model.set_attn_implementation(wanted)


def attention_of(models: Iterable[PreTrainedModel]) -> WeakKeyDictionary[PreTrainedModel, str]:
    """Return the attention implementation of each model, without adapters around it.

    The models are not kept alive by it.
    """
    return WeakKeyDictionary({model: str(model.config._attn_implementation) for model in models})


def restore_attention(implementations: Mapping[PreTrainedModel, str]) -> None:
    """Restore the attention implementations that `attention_of` returned."""
    for model, name in implementations.items():
        if model.config._attn_implementation != name:
            model.set_attn_implementation(name)


def _flex_obstacle(model: PreTrainedModel, device: torch.device, trained: bool) -> str | None:
    """Return why a model cannot run or be trained with FlexAttention; None if it can."""
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
        return "FlexAttention does not support attention dropout (disable_dropout=true)"
    return None
