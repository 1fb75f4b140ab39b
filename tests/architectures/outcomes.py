"""What becomes of one training step on an architecture, for each kind of method."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sparsepo import POTrainer, UserError
from sparsepo.batches.pack import pack_pairs
from sparsepo.batches.tokenize import tokenize_pairs
from tests.architectures.models import small_causal_model
from tests.invariant.training import make_trainer
from tests.small_models import CONTEXT, separate_logps, small_tokenizer, text_pairs

FILE = Path(__file__).with_name("outcomes.json")
METHODS = ("dpo", "tdpo1", "sparsepo-common", "sparsepo-independent", "mapo")

TESTED = (
    "bloom", "cohere", "cohere2", "deepseek_v3", "exaone4", "falcon", "gemma2", "gemma3_text",
    "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe",
    "jamba", "lfm2", "llama", "llama4_text", "mamba2", "mistral", "mixtral",
    "modernbert-decoder", "mpt", "olmo2", "opt", "phi", "phi3", "qwen2_moe", "qwen3",
    "qwen3_moe", "recurrent_gemma", "rwkv", "smollm3", "stablelm",
)  # fmt: skip
"""transformers' model_type of the architectures that the test suite tries; others are recorded."""

SETTINGS = {"max_steps": 1, "learning_rate": 1e-4, "per_device_train_batch_size": 3}
PAIRS = text_pairs(3, seed=4)


def outcomes(architecture: str) -> dict[str, str]:
    """Return method → the form in which it trains, or why it does not.

    Raises:
        AssertionError: a number is wrong.
    """
    model = small_causal_model(architecture)
    own = own_logps(model)
    return {method: outcome(model, method, own) for method in METHODS}


def outcome(model: PreTrainedModel, method: str, own: dict[str, float]) -> str:
    """Return "packed" or "plain" for a method that trains a model rightly, else the error's text.

    Args:
        model: left as it is.
        method: its name.
        own: the model's own log-probabilities, as `own_logps` returns them.

    Raises:
        AssertionError: the trainer's log-probabilities are not the model's own, the loss is not
            finite, or a mask is constant.
    """
    seen: list[Any] = []
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as output:
        try:
            trainer = make_trainer(
                Path(output), method, model=copy.deepcopy(model), pairs=PAIRS, **SETTINGS
            )
            trainer.model.register_forward_hook(lambda _module, _args, sides: seen.append(sides))
            trainer.train()
        except UserError as error:
            return str(error)
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert math.isfinite(logged["loss"]) and math.isfinite(logged["grad_norm"])
    for name, value in own.items():
        assert logged[f"logps/{name}"] == pytest.approx(value, rel=1e-5)
    chosen, _ = seen[-1]
    for mask in (chosen.reward_mask, chosen.kl_mask):
        if method not in ("dpo", "tdpo1"):
            assert mask[chosen.response_mask].std() > 1e-4
    form = str(trainer.model.computation)
    if method == "mapo" and form == "packed":
        check_activation_mask(trainer)
    return form


def own_logps(model: PreTrainedModel) -> dict[str, float]:
    """Return side → mean over pairs of a response's log-probability by the model's own forward."""
    pairs = tokenize_pairs(PAIRS, small_tokenizer(), max_length=CONTEXT).pairs
    assert len(pairs) == len(PAIRS)
    sides = {"chosen": [p.chosen_ids for p in pairs], "rejected": [p.rejected_ids for p in pairs]}
    with torch.no_grad():
        return {
            name: sum(
                float(separate_logps(model, pair.prompt_ids, response).double().sum())
                for pair, response in zip(pairs, responses, strict=True)
            )
            / len(pairs)
            for name, responses in sides.items()
        }


def check_activation_mask(trainer: POTrainer) -> None:
    """Compare the activation mask of packed rows with that of one row per response.

    Raises:
        AssertionError: they differ.
    """
    assert trainer.reference is not None
    pairs: Any = trainer.train_dataset

    def mask(share_prompt: bool) -> Tensor:
        batch = pack_pairs(list(pairs), share_prompt=share_prompt)
        read = trainer.reference.read(batch, trainer.method, trainer.needs)
        assert read.activation_mask is not None
        return read.activation_mask

    packed = mask(True)
    trainer.reference.computation = "plain"
    torch.testing.assert_close(packed, mask(False), rtol=0, atol=2e-3)


def recorded() -> dict[str, dict[str, str]]:
    """Return architecture → method → outcome, as recorded."""
    content: dict[str, dict[str, str]] = json.loads(FILE.read_text())
    return content
