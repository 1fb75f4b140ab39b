"""Loads models and tokenizers from folders or the hub, and finds checkpoints to resume from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from sparsepo.data.hub import defer_messages, require_model
from sparsepo.errors import UserError, first_line
from sparsepo.models.activations import fuse_activations
from sparsepo.models.adapters import (
    add_adapters,
    check_adapters,
    check_merging,
    has_adapters,
    is_quantized,
    quantization,
    wrap,
)
from sparsepo.models.gated import fuse_gates
from sparsepo.training.config import POConfig
from sparsepo.training.sources import from_source, gguf_tokenizer, is_gguf

_RANDOM = re.compile(
    "drop(out|_?prob|_?path)?(_|$)|layerdrop|^(input_)?jitter_noise$|^moe_jitter_eps$"
)
"""Module attributes that control randomness in training mode only."""


def load_policy(
    model: str | PreTrainedModel,
    *,
    dtype: str = "auto",
    bits: int | None = None,
    device: torch.device | None = None,
    options: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Return a causal language model from its source; a model is returned unchanged.

    A folder of adapters gives a PEFT model on the base model that it names, its adapters trainable.

    Args:
        model: folder, GGUF file, hub id or model.
        dtype: of the weights, "auto" for the checkpoint's own.
        bits: 4 or 8 to quantize the weights by bitsandbytes.
        device: where quantized weights go; others stay on the CPU.
        options: further arguments of from_pretrained, of the model and of the base model under
            adapters.

    Raises:
        UserError: nothing can be loaded from there, or its adapters cannot be trained.
    """
    if not isinstance(model, str | Path):
        check_adapters(model)
        return model
    options = {"dtype": dtype, **(options or {})}
    if not is_gguf(model):
        require_model(model, **options)
    if bits:
        options["quantization_config"] = quantization(bits)
    if "quantization_config" in options:
        options["device_map"] = {"": device or torch.device("cpu")}
    try:
        with defer_messages():
            loaded = from_source(model, options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"No causal language model can be loaded from '{model}'; give a folder with its "
            f"config.json and weights, a GGUF file, or a hub id ({first_line(error)})."
        ) from error
    check_adapters(loaded)
    result: PreTrainedModel = loaded
    return result


def load_as_configured(
    model: str | PreTrainedModel,
    config: POConfig,
    quantized: BitsAndBytesConfig | None = None,
) -> PreTrainedModel:
    """Return a model as `load_policy` does, in the dtype and bits of a configuration.

    Activation functions and gates made of several operations are fused, also in a model in memory,
    unless the configuration uses the reference implementation.

    Args:
        model: folder, hub id or model.
        config: how to load it.
        quantized: how to quantize it, in place of the configuration's bits.

    Raises:
        UserError: as `load_policy` does.
    """
    options = from_pretrained_options(config)
    if quantized is not None:
        options["quantization_config"] = quantized
    # Quantized weights are created on their final device; the trainer places the others.
    device = config.device if config.bits or quantized is not None else None
    loaded = load_policy(
        model, dtype=config.model_dtype, bits=config.bits, device=device, options=options
    )
    check_placement(loaded)
    if config.computation != "plain":
        fuse_activations(loaded)
        fuse_gates(loaded)
    return loaded


def from_pretrained_options(config: POConfig) -> dict[str, Any]:
    """Return the further arguments of from_pretrained that a configuration gives.

    Raises:
        UserError: one that POConfig has under another name, or that trainer and model exclude.
    """
    given: Any = config.model_init_kwargs or {}
    options = dict(given)
    elsewhere = {
        "dtype": "set model_dtype instead",
        "torch_dtype": "set model_dtype instead",
        "attn_implementation": "set attention instead",
        "quantization_config": "set load_in_4bit or load_in_8bit, or give it to POTrainer",
        "load_in_4bit": "set load_in_4bit of POConfig",
        "load_in_8bit": "set load_in_8bit of POConfig",
        "device_map": "leave it out, the trainer places the model",
        "tp_plan": "leave it out, use configs/accelerate/fsdp.yaml",
    }
    for name, remedy in elsewhere.items():
        if options.get(name) is not None:
            raise UserError(f"model_init_kwargs cannot set {name}; {remedy}.")
        options.pop(name, None)
    if config.trust_remote_code:
        options["trust_remote_code"] = True
    return options


def check_placement(model: PreTrainedModel) -> None:
    """Reject a model whose weights were distributed before the trainer could place them.

    Raises:
        UserError: the model is on several devices, or was sharded when it was loaded.
    """
    places: Any = getattr(model, "hf_device_map", None) or {}
    if len(set(places.values())) > 1:
        raise UserError(
            f"The model is placed on several devices ({', '.join(map(str, places.values()))}); "
            "load it without device_map, and use configs/accelerate/fsdp.yaml if it does not fit "
            "on one."
        )
    if (
        getattr(model, "is_distributed_loading_by_transformers", False)
        or (getattr(model, "_tp_size", None) or 1) > 1
    ):
        raise UserError(
            "The model was sharded when it was loaded; load the whole model, and use "
            "configs/accelerate/fsdp.yaml to shard it."
        )


def make_policy(
    model: str | PreTrainedModel,
    config: POConfig,
    adapters: PeftConfig | None = None,
    quantized: BitsAndBytesConfig | None = None,
) -> PreTrainedModel:
    """Return the policy that a configuration describes, with new adapters if it has any.

    Args:
        model: folder, hub id or model.
        config: how to load it, and LoRA adapters to add.
        adapters: adapters of another kind or with further settings to add, in place of `lora_r`.
        quantized: see `load_as_configured`.

    Raises:
        UserError: the model cannot be loaded, or does not match the configuration.
    """
    check_loading(model, config, adapters, quantized)
    policy = load_as_configured(model, config, quantized)
    if config.lora_r is not None or adapters is not None:
        set_seed(config.seed)
    if config.lora_r is not None:
        policy = add_adapters(
            policy,
            config.lora_r,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            targets=config.adapter_targets,
        )
    if adapters is not None:
        policy = wrap(policy, adapters)
    if is_quantized(policy) and not has_adapters(policy):
        bits = 4 if getattr(policy, "is_loaded_in_4bit", False) else 8
        raise UserError(
            f"{bits}-bit weights cannot be trained directly; set lora_r to train adapters."
        )
    if config.merge_adapters:
        check_merging(adapters=has_adapters(policy), quantized=is_quantized(policy))
    return policy


def check_loading(
    model: str | PreTrainedModel,
    config: POConfig,
    adapters: PeftConfig | None = None,
    quantized: BitsAndBytesConfig | None = None,
) -> None:
    """Check the options for making a policy, before anything is loaded.

    Args:
        model: see `make_policy`.
        config: see `make_policy`.
        adapters: see `make_policy`.
        quantized: see `make_policy`.

    Raises:
        UserError: options exclude each other, or do not apply to a model in memory.
    """
    if adapters is not None and not isinstance(adapters, PeftConfig):
        raise UserError(
            f"peft_config is of type {type(adapters).__name__}; give a peft.LoraConfig or another "
            "of peft's configurations."
        )
    if adapters is not None and config.lora_r is not None:
        raise UserError("lora_r and peft_config both describe adapters; leave one of them out.")
    if quantized is not None and not isinstance(quantized, BitsAndBytesConfig):
        raise UserError(
            f"quantization_config is of type {type(quantized).__name__}; give a "
            "transformers.BitsAndBytesConfig."
        )
    if quantized is not None and config.bits:
        raise UserError(
            f"load_in_{config.bits}bit and quantization_config both quantize the model; leave one "
            "of them out."
        )
    if isinstance(model, str | Path):
        return
    for name, given in (
        ("quantization_config", quantized is not None),
        (f"load_in_{config.bits}bit", config.bits),
        ("model_dtype", config.model_dtype != "auto"),
        ("model_init_kwargs", config.model_init_kwargs),
        ("trust_remote_code", config.trust_remote_code),
    ):
        if given:
            raise UserError(
                f"{name} applies to loading a model; give its folder or id, not the model itself."
            )


def load_tokenizer(model: str, options: Mapping[str, Any] | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder, GGUF file or hub id.

    Args:
        model: the folder, file or id.
        options: arguments of the model's from_pretrained, some of which apply to tokenizers too.

    Raises:
        UserError: no tokenizer can be loaded.
    """
    gguf = is_gguf(model)
    shared = ("revision", "trust_remote_code", "token", "cache_dir", "subfolder", "force_download")
    taken = {name: value for name, value in (options or {}).items() if name in shared}
    if not gguf:
        require_model(model, **taken)
    try:
        with defer_messages():
            tokenizer: PreTrainedTokenizerBase = (
                gguf_tokenizer(model, taken)
                if gguf
                else AutoTokenizer.from_pretrained(model, **taken)
            )
    except UserError:
        raise
    except Exception as error:
        remedy = "choose another file" if gguf else "save one next to the model"
        raise UserError(
            f"No tokenizer can be loaded from '{model}'; {remedy} ({first_line(error)})."
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # With only a model's configuration transformers creates an empty tokenizer.
        raise UserError(f"There are no tokenizer files in '{model}'; save one next to the model.")
    return tokenizer


def origin_of(model: str | PreTrainedModel) -> str | None:
    """Return where a model can be loaded from again: an absolute path or a hub id.

    Args:
        model: folder, GGUF file, hub id, or a model as it was loaded.

    Returns:
        None for a model that was made in memory, and for one with adapters, which names only the
        base model under them.
    """
    if isinstance(model, str | Path):
        name = str(model)
    else:
        name = "" if has_adapters(model) else str(model.config.name_or_path)
    if name and (Path(name).is_dir() or is_gguf(name)):
        return str(Path(name).resolve())
    return name or None


def switch_off_dropout(model: nn.Module) -> None:
    """Set a model's own dropout, layer dropout and router noise to 0; adapters keep their dropout.

    Preference losses compare the policy with its reference token by token; randomness in one of
    them would make their log-ratio differ from 0 at the start.
    """
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            continue
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        # Many modules store a number and pass it to a kernel or a function.
        for attribute, value in vars(module).items():
            if isinstance(value, float) and _RANDOM.search(attribute):
                setattr(module, attribute, 0.0)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of an interrupted run, or None.

    transformers writes trainer_state.json last; a checkpoint without a valid one is incomplete.

    Args:
        folder: the training run's output folder.
    """

    def whole(checkpoint: Path) -> bool:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            return False
        return True

    found = [
        checkpoint
        for checkpoint in folder.glob("checkpoint-*")
        if checkpoint.name.removeprefix("checkpoint-").isdigit() and whole(checkpoint)
    ]
    newest = max(found, key=lambda checkpoint: int(checkpoint.name.split("-")[1]), default=None)
    return None if newest is None else str(newest)
