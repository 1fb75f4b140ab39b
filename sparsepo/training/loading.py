"""From a folder or hub id to a model, a tokenizer, or the checkpoint of an interrupted run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from sparsepo.data.hub import held_messages
from sparsepo.errors import UserError, first_line
from sparsepo.models.activations import fuse_activations
from sparsepo.models.adapters import (
    add_adapters,
    check_adapters,
    check_merging,
    has_adapters,
    is_quantized,
    prepare_quantized,
    quantization,
)
from sparsepo.training.config import POConfig

_RANDOM = re.compile(
    "drop(out|_?prob|_?path)?(_|$)|layerdrop|^(input_)?jitter_noise$|^moe_jitter_eps$"
)
"""Attributes of modules that say how random they are in training mode, and only then."""


def load_policy(
    model: str | PreTrainedModel,
    *,
    dtype: str = "auto",
    bits: int | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """Return a causal language model from a folder or hub id; a model is returned as it is.

    A folder of adapters gives a PEFT model on the base model that it names, its adapters trainable.

    Args:
        model: folder, hub id or model.
        dtype: of the weights, "auto" for the checkpoint's own.
        bits: 4 or 8 to quantize the weights by bitsandbytes.
        device: where quantized weights go; others stay on the CPU.

    Raises:
        UserError: nothing can be loaded from there, or its adapters cannot be trained.
    """
    if not isinstance(model, str | Path):
        check_adapters(model)
        return model
    options: dict[str, Any] = {"dtype": dtype}
    if bits:
        options["quantization_config"] = quantization(bits)
        options["device_map"] = {"": device or torch.device("cpu")}
    try:
        with held_messages():
            loaded = _from_pretrained(model, options, bits)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"No causal language model can be loaded from '{model}'; give a folder with its "
            f"config.json and weights, or a hub id ({first_line(error)})."
        ) from error
    check_adapters(loaded)
    result: PreTrainedModel = loaded
    return result


def _from_pretrained(model: str | Path, options: dict[str, Any], bits: int | None) -> Any:
    if not (Path(model) / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(model, **options)
    base = PeftConfig.from_pretrained(str(model)).base_model_name_or_path
    whole: Any = AutoModelForCausalLM.from_pretrained(base, **options)
    if bits:
        whole = prepare_quantized(whole)
    return PeftModel.from_pretrained(whole, model, is_trainable=True)


def load_as_configured(model: str | PreTrainedModel, config: POConfig) -> PreTrainedModel:
    """Return a model as `load_policy` does, in the dtype and bits of a configuration.

    Activations that are spelled out become one operation, also in a model that is given, unless
    the configuration asks for the plain form.

    Raises:
        UserError: as `load_policy` does.
    """
    # On a GPU quantized weights are made where they stay; the rest follows the trainer.
    device = config.device if config.bits else None
    loaded = load_policy(model, dtype=config.model_dtype, bits=config.bits, device=device)
    if config.computation != "plain":
        fuse_activations(loaded)
    return loaded


def make_policy(model: str | PreTrainedModel, config: POConfig) -> PreTrainedModel:
    """Return the policy that a configuration describes, with fresh adapters if it asks for them.

    Raises:
        UserError: it cannot be loaded, or the configuration does not fit it.
    """
    if not isinstance(model, str | Path) and (config.model_dtype != "auto" or config.bits):
        option = f"load_in_{config.bits}bit" if config.bits else "model_dtype"
        raise UserError(
            f"{option} says how a model is loaded; give its folder or id, not the model itself."
        )
    policy = load_as_configured(model, config)
    if config.lora_r is not None:
        set_seed(config.seed)
        policy = add_adapters(
            policy,
            config.lora_r,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            targets=config.adapter_targets,
        )
    if config.bits and not has_adapters(policy):
        raise UserError(
            f"{config.bits}-bit weights cannot be trained themselves; set lora_r for adapters."
        )
    if config.merge_adapters:
        check_merging(adapters=has_adapters(policy), quantized=is_quantized(policy))
    return policy


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub id.

    Raises:
        UserError: there is none.
    """
    try:
        with held_messages():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"No tokenizer can be loaded from '{model}'; save one beside the model "
            f"({first_line(error)})."
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # From the model's configuration alone transformers makes a tokenizer without words.
        raise UserError(f"There are no tokenizer files in '{model}'; save one beside the model.")
    return tokenizer


def origin_of(model: str | PreTrainedModel) -> str | None:
    """Return where a model can be loaded from again: an absolute folder or a hub id.

    Args:
        model: folder, hub id, or a model as it was loaded.

    Returns:
        None for a model that was made in memory, and for one with adapters, which names only the
        base model under them.
    """
    if isinstance(model, str | Path):
        name = str(model)
    else:
        name = "" if has_adapters(model) else str(model.config.name_or_path)
    if Path(name).is_dir() and name:
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
        # Many modules keep a plain number and pass it to a kernel or a function.
        for attribute, value in vars(module).items():
            if isinstance(value, float) and _RANDOM.search(attribute):
                setattr(module, attribute, 0.0)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of an interrupted run, or None.

    transformers writes trainer_state.json last, so a checkpoint without a whole one was cut short.

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
