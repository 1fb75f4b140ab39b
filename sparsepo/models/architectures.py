"""Where each architecture keeps what masks read: module roles → names, one row per architecture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from sparsepo.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """Names of modules by their role; dots descend. Block roles are relative to a block."""

    blocks: str
    """The list of blocks, relative to the model without its head."""
    final_norm: str
    attention: str
    projection: str
    """The attention's output projection."""
    query_key: tuple[str, ...]
    """Projections that make queries and keys; one name means one fused projection, interleaved by
    head. Empty where no rotary embedding follows, so that the attention sees them as they are."""
    mlp: str
    activation: str
    """The MLP's activation function."""
    first_norm: str
    second_norm: str | None
    """The norm before the MLP; None where the MLP reads the attention's norm."""
    adapter_targets: tuple[str, ...]
    """The projections that get LoRA adapters by default: queries and values, or what makes them."""


_GPT2 = Architecture(
    blocks="h",
    final_norm="ln_f",
    attention="attn",
    projection="attn.c_proj",
    query_key=(),
    mlp="mlp",
    activation="mlp.act",
    first_norm="ln_1",
    second_norm="ln_2",
    adapter_targets=("c_attn",),
)
_LLAMA = Architecture(
    blocks="layers",
    final_norm="norm",
    attention="self_attn",
    projection="self_attn.o_proj",
    query_key=("self_attn.q_proj", "self_attn.k_proj"),
    mlp="mlp",
    activation="mlp.act_fn",
    first_norm="input_layernorm",
    second_norm="post_attention_layernorm",
    adapter_targets=("q_proj", "v_proj"),
)
ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gptj": replace(
        _GPT2,
        projection="attn.out_proj",
        query_key=("attn.q_proj", "attn.k_proj"),
        second_norm=None,
        adapter_targets=("q_proj", "v_proj"),
    ),
    "gpt_neox": Architecture(
        blocks="layers",
        final_norm="final_layer_norm",
        attention="attention",
        projection="attention.dense",
        query_key=("attention.query_key_value",),
        mlp="mlp",
        activation="mlp.act",
        first_norm="input_layernorm",
        second_norm="post_attention_layernorm",
        adapter_targets=("query_key_value",),
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
}
"""transformers' model_type → where its modules are."""


def architecture_of(model: PreTrainedModel) -> Architecture:
    """Return the row of a model's architecture.

    Raises:
        UserError: the architecture has no row.
    """
    model_type = str(model.config.model_type)
    if model_type not in ARCHITECTURES:
        raise UserError(
            f"Masks cannot read the architecture '{model_type}' yet; use one of "
            f"{', '.join(ARCHITECTURES)}, or add its row to sparsepo/models/architectures.py."
        )
    return ARCHITECTURES[model_type]


def submodule(module: nn.Module, name: str) -> Any:
    """Return the module of that dotted name; "" is the module itself."""
    return module.get_submodule(name)


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """Return the model's blocks in order."""
    return list(submodule(model.base_model, architecture_of(model).blocks))


def final_norm_of(model: PreTrainedModel) -> nn.Module:
    """Return the norm after the last block."""
    norm: nn.Module = submodule(model.base_model, architecture_of(model).final_norm)
    return norm


def norm_epsilon(model: PreTrainedModel) -> float:
    """Return the epsilon of the model's own norms, which learned masks share (arXiv 2410.05102)."""
    norm = final_norm_of(model)
    # LayerNorm calls it eps, RMSNorm variance_epsilon.
    return float(getattr(norm, "eps", getattr(norm, "variance_epsilon", 1e-5)))
