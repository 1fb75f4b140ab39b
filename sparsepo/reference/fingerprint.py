"""What a reference's numbers depend on, as JSON data, and the hash of it.

Whatever may move a log-probability is part of the fingerprint, so that numbers of one reference are
never taken for those of another. Tensors and the tokenizer's vocabulary enter as hashes, everything
else in clear.
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
"""Under these names PEFT keeps the module that an adapter or a trained copy stands for."""

_NOT_NUMBERS = ("_name_or_path", "architectures", "transformers_version", "use_cache", "dtype")
"""What a configuration says that moves no number (versions and dtype are parts of their own)."""


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
    """Return what the log-probabilities of a reference depend on, apart from the pairs' tokens.

    Args:
        model: the reference without a PEFT wrapper.
        tokenizer: it made the pairs' tokens.
        settings: further JSON data: limits of length, mixed precision, device.
        without_adapters: PEFT adapters inside the model are switched off and do not count.

    Raises:
        UserError: the weights are not all here (DeepSpeed ZeRO-3, meta device).
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
        without_adapters: leave the tensors of PEFT adapters out and call what they wrap by its own
            name: a model under adapters then has the hash of the model alone.

    Raises:
        UserError: a tensor's values are not in this process.
    """
    whole = hashlib.sha256()
    # Tied weights have two names and one content.
    known: dict[tuple[int, int, torch.dtype], str] = {}
    for name, tensor in sorted(_tensors(model, without_adapters)):
        if tensor.is_meta or hasattr(tensor, "ds_id"):
            raise UserError(
                f"The reference's weights are spread over processes ({name} is not whole in this "
                "one), so that no cache can know them; leave reference_cache out."
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
    # ZeRO-3 marks parameters, and a state dict holds only their data.
    tensors: dict[str, Tensor] = {**model.state_dict(), **dict(model.named_parameters())}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            continue  # quantised layers keep descriptions beside their tensors
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
    """Return the SHA-256 of a tokenizer in its serialised form, chat template apart."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        form: Any = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        # The last call's truncation and padding stay in it; tokenize.py sets its own.
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
