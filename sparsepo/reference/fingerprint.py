"""The fingerprint of a reference: everything that its statistics depend on, as JSON data.

Everything that can change a log-probability is part of the fingerprint, so values of one reference
are never mistaken for those of another. Tensors and the tokenizer's vocabulary are hashed;
everything else is stored in plain text.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparsepo.errors import UserError
from sparsepo.types import TokenizedPair

_CHUNK_BYTES = 16 * 2**20
_WRAPPED = ("base_layer", "original_module")
"""Names under which PEFT keeps the module that an adapter or a trained copy replaces."""

_NOT_NUMBERS = ("_name_or_path", "architectures", "transformers_version", "use_cache", "dtype")
"""Configuration keys that affect no value (versions and dtype have their own entries)."""


def digest(value: Any) -> str:
    """Return the SHA-256 of JSON data, in hexadecimal; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def reference_fingerprint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Mapping[str, Any],
    *,
    without_adapters: bool = False,
) -> dict[str, Any]:
    """Return everything that a reference's log-probabilities depend on, except the pairs' tokens.

    Args:
        model: the reference without a PEFT wrapper.
        tokenizer: the tokenizer of the pairs.
        settings: further JSON data: length limits, mixed precision, device.
        without_adapters: ignore PEFT adapters inside the model, because they are disabled.

    Raises:
        UserError: the weights are not complete in this process (DeepSpeed ZeRO-3, meta device).
    """
    config = json.loads(model.config.to_json_string(use_diff=False))
    return {
        "weights": weights_hash(model, without_adapters=without_adapters),
        "config": {key: config[key] for key in config if key not in _NOT_NUMBERS},
        "dtype": str(model.dtype),
        "attention": str(model.config._attn_implementation),
        "tokenizer": tokenizer_hash(tokenizer),
        "chat_template": tokenizer.chat_template,
        "versions": {
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
        },
        **settings,
    }


def weights_hash(model: nn.Module, *, without_adapters: bool = False) -> str:
    """Return the SHA-256 of a model's tensors: names, dtypes, shapes and bytes.

    Args:
        model: on any device.
        without_adapters: leave out the tensors of PEFT adapters and use the original names of the
            modules that they wrap. The hash is then that of the model without adapters.

    Raises:
        UserError: a tensor's values are not in this process.
    """
    whole = hashlib.sha256()
    # Tied weights have two names but the same content.
    known: dict[tuple[int, int, torch.dtype], str] = {}
    for name, tensor in sorted(_tensors(model, without_adapters)):
        if tensor.is_meta or hasattr(tensor, "ds_id"):
            raise UserError(
                f"The reference's weights are sharded (this process holds only a part of {name}), "
                "so they cannot be fingerprinted; leave reference_cache out."
            )
        key = (tensor.data_ptr(), tensor.numel(), tensor.dtype)
        if key not in known:
            known[key] = _tensor_hash(tensor)
        whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0{known[key]}\n".encode())
    return whole.hexdigest()


def _tensors(model: nn.Module, without_adapters: bool) -> Iterator[tuple[str, Tensor]]:
    wrappers = [
        (f"{name}.", f"{name}.{inner}.")
        for name, module in model.named_modules()
        for inner in _WRAPPED
        if without_adapters and inner in module._modules
    ]
    # ZeRO-3 marks parameters, but a state dict contains only their data.
    tensors: dict[str, Tensor] = {**model.state_dict(), **dict(model.named_parameters())}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            continue  # quantized layers store descriptions next to their tensors
        if any(name.startswith(outer) and not name.startswith(base) for outer, base in wrappers):
            continue
        for inner in _WRAPPED if without_adapters else ():
            name = name.replace(f".{inner}.", ".")
        yield name, tensor


def _tensor_hash(tensor: Tensor) -> str:
    result = hashlib.sha256()
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, len(flat), _CHUNK_BYTES):
        result.update(memoryview(flat[start : start + _CHUNK_BYTES].cpu().numpy()))  # type: ignore[arg-type]
    return result.hexdigest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of a tokenizer in its serialised form, without the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        form: Any = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        # It includes truncation and padding of the last call; tokenize.py sets its own.
        form = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest({"form": form, "special": special})


def pair_hash(pair: TokenizedPair) -> str:
    """Return a hash of a pair's token ids, 128 bits in hexadecimal."""
    result = hashlib.sha256()
    for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids):
        result.update(len(ids).to_bytes(8, "little"))
        result.update(array("q", ids).tobytes())
    return result.hexdigest()[:32]
