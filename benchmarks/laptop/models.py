"""The models of the laptop benchmark, their lengths, and how they come to a folder."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import write_tokenizer
from sparsepo.errors import UserError

CONTEXT = 1024


@dataclass(frozen=True)
class LaptopModel:
    """A model that a laptop trains, and its configuration where its weights are not at hand."""

    name: str
    title: str
    vocabulary: int
    pairs: int
    """Pairs per step, for which TRL's trainer and this one fit into 16 GB together."""
    config: dict[str, Any]
    """Options of transformers' AutoConfig."""


MODELS = (
    LaptopModel(
        "smollm2",
        "SmolLM2 135M",
        49152,
        4,
        {
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100000.0,
        },
    ),
    LaptopModel(
        "gemma",
        "Gemma 3 270M",
        262144,
        2,
        {
            "model_type": "gemma3_text",
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 512,
        },
    ),
)

LENGTHS = {"hh": ("HH 120+120", 120, 120), "tldr": ("TL;DR 350+40", 350, 40)}


def write_laptop_model(model: LaptopModel, source: str | None, folder: Path) -> None:
    """Save a model, with a tokenizer of made-up words, so that texts have exact lengths.

    Args:
        model: which one.
        source: folder or GGUF file of its weights; None for random ones.
        folder: where to.

    Raises:
        UserError: the source cannot be read, or holds another model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from sparsepo.training.loading import load_policy

    loaded: Any
    if source:
        loaded = load_policy(source, dtype="float32")
        config = loaded.config
        wanted = {"vocab_size": model.vocabulary, **model.config}
        for option in ("vocab_size", "hidden_size", "num_hidden_layers"):
            if getattr(config, option, None) != wanted[option]:
                raise UserError(
                    f"'{source}' is not {model.title}: its {option} is "
                    f"{getattr(config, option, None)} instead of {wanted[option]}; give that model "
                    f"in --{model.name}."
                )
    else:
        end = model.vocabulary - 1
        special: dict[str, Any] = dict.fromkeys(
            ("bos_token_id", "eos_token_id", "pad_token_id"), end
        )
        config = AutoConfig.for_model(
            vocab_size=model.vocabulary,
            tie_word_embeddings=True,
            max_position_embeddings=8192,
            **special,
            **model.config,
        )
        torch.manual_seed(0)
        loaded = AutoModelForCausalLM.from_config(config)
    # Nothing but made-up words is read, so no real end of sequence cuts a response short.
    loaded.config.eos_token_id = loaded.generation_config.eos_token_id = model.vocabulary - 1
    loaded.config.pad_token_id = loaded.generation_config.pad_token_id = model.vocabulary - 1
    loaded.save_pretrained(folder)
    write_tokenizer(model.vocabulary, CONTEXT, folder)
    del loaded
    gc.collect()
