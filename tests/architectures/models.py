"""Small random-weight models of any causal language model in transformers, shrunk automatically."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.small_models import CONTEXT, VOCABULARY

_HEADS, _WIDTH, _INNER, _EXPERT = 4, 32, 48, 24
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings",), CONTEXT),
    **dict.fromkeys(
        ("hidden_size", "d_model", "word_embed_proj_dim", "embedding_size", "lru_width"), _WIDTH
    ),
    **dict.fromkeys(("attention_hidden_size", "mamba_d_ssm"), _WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(
        ("num_attention_heads", "n_heads", "decoder_attention_heads", "encoder_attention_heads"),
        _HEADS,
    ),
    "num_heads": _HEADS,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    **dict.fromkeys(
        ("intermediate_size", "ffn_hidden_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"),
        _INNER,
    ),
    # Mixtures of experts.
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(
        (
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "shared_intermediate_size",
            "expert_ffn_size",
            "expert_intermediate_size",
        ),
        _EXPERT,
    ),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts"), 1),
    "first_k_dense_replace": 1,
    # Latent attention.
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    # State spaces and linear attention.
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 8),
    **dict.fromkeys(("n_groups", "mamba_n_groups"), 1),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), _HEADS),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    "mamba_expand": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": _HEADS,
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    # Shorter than the longest pair, so that a window that is lost shows.
    "sliding_window": 8,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
"""Options that configurations use for sizes; each is set where a configuration has it."""

_MEANT: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "emu3": {"pad_token_id": 0},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma2": {"query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "num_layers": 2,
        "window_size": 8,
    },
    "granite": {"residual_multiplier": 0.5, "logits_scaling": 4.0},
    "granitemoe": {"residual_multiplier": 0.5, "logits_scaling": 4.0},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "layers_block_type": ["mamba", "attention"],
    },
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"num_hidden_layers": 2, "attn_layer_offset": 1, "attn_layer_period": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "ministral": {"head_dim": 8},
    "modernbert-decoder": {"pad_token_id": 0},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "stablelm": {"use_parallel_residual": True},
    "zaya": {"num_experts_per_tok": 1},
    **{
        name: {"pad_token_id": 1}
        for name in (
            "camembert",
            "data2vec-text",
            "roberta",
            "roberta-prelayernorm",
            "xlm-roberta",
            "xlm-roberta-xl",
        )
    },
}
"""What shrinking alone does not do: sizes under names of their own, and what an architecture is
known for but its defaults leave out."""

_LARGEST = 5_000_000
"""Parameters; a model that stays larger was not shrunk."""


def shrunk_config(model_type: str, **changes: Any) -> Any:
    """Return an architecture's configuration with two layers of width 32.

    Args:
        model_type: as transformers calls it.
        changes: further options.
    """
    default = AutoConfig.for_model(model_type)
    text = default.get_text_config()
    options: dict[str, Any] = {}
    for name, size in _SIZES.items():
        actual = getattr(type(text), "attribute_map", {}).get(name, name)
        if _is_computed(text, name) or not hasattr(text, actual):
            continue
        # An option that is off stays off.
        if name in ("sliding_window", "head_dim", "q_lora_rank") and getattr(text, actual) is None:
            continue
        options[name] = size
    kinds = getattr(text, "layer_types", None)
    if kinds and not _is_computed(text, "layer_types"):
        # A layer of each kind.
        different = list(dict.fromkeys(kinds))
        count = max(2, len(different))
        options.update(layer_types=(different * 2)[:count], num_hidden_layers=count)
    if hasattr(text, "qk_rope_head_dim"):
        options = {k: v for k, v in options.items() if k not in ("head_dim", "rotary_dim")}
        options["num_key_value_heads"] = _HEADS
    options.update({**_MEANT.get(model_type, {}), **changes})
    if text is not default:
        part = next(name for name in default.sub_configs if getattr(default, name, None) is text)
        options = {part: {**options, "model_type": text.model_type}}
    config = AutoConfig.for_model(model_type, **options)
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    return config


def _is_computed(config: Any, name: str) -> bool:
    """Return whether an option follows from others."""
    names = {name, getattr(type(config), "attribute_map", {}).get(name, name)}
    return any(isinstance(getattr(type(config), item, None), property) for item in names)


def small_causal_model(model_type: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a small model whose weights are drawn wide enough for mistakes to show.

    Args:
        model_type: as transformers calls the architecture.
        seed: of the weights.
        changes: options of its configuration.

    Raises:
        ValueError: the architecture cannot be shrunk by these options.
    """
    config = shrunk_config(model_type, **changes)
    with torch.device("meta"):
        size = sum(w.numel() for w in AutoModelForCausalLM.from_config(config).parameters())
    if size > _LARGEST:
        raise ValueError(f"{model_type} still has {size} parameters")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(3)
            elif "bias" in name:
                weight.normal_(std=0.1)
    return model.eval()
