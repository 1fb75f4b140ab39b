"""From a folder or hub id to a model, a tokenizer, or the checkpoint of an interrupted run."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sparsepo.errors import UserError, first_line


def load_policy(model: str | PreTrainedModel) -> PreTrainedModel:
    """Return a causal language model from a folder or hub id; a model is returned as it is.

    Raises:
        UserError: nothing can be loaded from there.
    """
    if not isinstance(model, str | Path):
        return model
    try:
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"No causal language model can be loaded from '{model}'; give a folder with its "
            f"config.json and weights, or a hub id ({first_line(error)})."
        ) from error
    return loaded


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub id.

    Raises:
        UserError: there is none.
    """
    try:
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


def switch_off_dropout(model: nn.Module) -> None:
    """Set a model's own dropout to 0, in modules and in attention; adapters keep theirs.

    Preference losses compare the policy with its reference token by token; dropout in one of them
    would make their log-ratio differ from 0 at the start.
    """
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            continue
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Attention passes a plain number to its kernel.
        for attribute in ("attention_dropout", "attn_dropout"):
            if isinstance(getattr(module, attribute, None), float):
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
