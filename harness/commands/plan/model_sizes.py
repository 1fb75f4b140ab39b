"""How large models are, from a plan's table, a folder, a GGUF file or a base model's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.commands.plan.cost_model import Shape
from harness.commands.plan.facts import MODELS, shape_of_config
from sparsepo.errors import UserError
from sparsepo.training.gguf import read_header


class UnknownSizeError(Exception):
    """A size that cannot be known before the run, in words."""


def base_shape(config: Mapping[str, Any]) -> Shape:
    """Return the sizes of a tiny base model from its BaseModelConfig."""
    names = {"layers": "num_hidden_layers", "width": "hidden_size", "vocabulary_size": "vocab_size"}
    found = shape_of_config(
        {
            "model_type": config["architecture"],
            "num_attention_heads": config["heads"],
            "multi_query": config["architecture"] == "gpt_bigcode",
            **{name: config[key] for key, name in names.items()},
            **({} if config["architecture"] == "gpt_neox" else {"n_positions": config["context"]}),
        }
    )
    assert found is not None
    return found


def hub_shape(name: str) -> Shape:
    """Return the sizes of a model on the hub, from the plan's table or the local cache.

    Raises:
        UnknownSizeError: it is in neither.
    """
    if name in MODELS:
        return MODELS[name].shape
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return folder_shape(Path(cached).parent)
    raise UnknownSizeError(f"the sizes of {name} are not known here")


def folder_shape(folder: Path) -> Shape:
    """Return the sizes of a model in a folder.

    Raises:
        UnknownSizeError: its config.json does not say them.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = shape_of_config(config)
    except (OSError, ValueError, TypeError, AttributeError):
        found = None
    if found is None:
        raise UnknownSizeError(f"the config.json of {folder} does not say its sizes")
    return found


def gguf_shape(file: Path) -> Shape:
    """Return the sizes of a model in a GGUF file.

    Args:
        file: the file, or the first of its parts, which holds its header.

    Raises:
        UnknownSizeError: its header does not say them.
    """
    try:
        header = read_header(file)
    except UserError as error:
        raise UnknownSizeError(str(error)) from None
    layers, width = header.of_model("block_count"), header.of_model("embedding_length")
    vocabulary = header.lengths.get("tokenizer.ggml.tokens")
    if not layers or not width or not vocabulary:
        raise UnknownSizeError(f"the header of {file} does not say its sizes")
    heads = header.of_model("attention.head_count") or 1
    of_head = header.of_model("attention.key_length") or width // heads
    gated = any(name.endswith("ffn_gate.weight") for name in header.tensors)
    return Shape(
        layers,
        width,
        header.of_model("feed_forward_length") or 4 * width,
        vocabulary,
        header.parameters,
        2 * (header.of_model("attention.head_count_kv") or heads) * of_head,
        3 if gated else 2,
    )
