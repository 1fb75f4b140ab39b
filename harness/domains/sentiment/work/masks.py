"""The stage that reads the masks of a trained model off the pairs of another one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from harness.domains.common.work.files import MODEL, TOKEN_MASKS, read_pairs_file, starting_model
from harness.domains.sentiment.work.common import SPLITS
from harness.graph.stages import StageContext
from sparsepo.analysis.maps import token_maps
from sparsepo.analysis.masks import masks_of
from sparsepo.analysis.trained import load_trained
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.data.token_masks import write_token_masks
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair


def extract_masks(context: StageContext) -> None:
    """Write masks.jsonl: the masks of a trained model on all training and held-out pairs.

    Configuration: `max_length`, `max_prompt_length`, `batch_size`, `device`, `model` (hub id of the
    model that training started from, or None), `target` (hub id of the model that is to be given
    the masks, or None). Inputs: "run", "pairs", and "model" and "target" unless they come from
    outside.
    """
    config = context.config
    source = starting_model(context)
    pairs = list(
        chain.from_iterable(
            read_pairs_file(context.inputs["pairs"] / f"{split}.jsonl") for split in SPLITS
        )
    )
    lengths = {
        "max_length": config["max_length"],
        "max_prompt_length": config["max_prompt_length"],
        "on_long_response": "truncate",
    }
    _require_same_tokens(pairs, source, _target(context), lengths)
    trained = load_trained(
        context.inputs["run"] / MODEL,
        reference=source,
        dtype="float32",
        device=torch.device(config["device"]),
    )
    found = token_maps(trained, pairs, batch_size=config["batch_size"], **lengths)
    write_token_masks(masks_of(found.maps), context.work / TOKEN_MASKS)


def _target(context: StageContext) -> Path | str:
    if "target" in context.inputs:
        return context.inputs["target"] / MODEL
    if "target" in context.files:
        return context.files["target"]
    return str(context.config["target"])


def _require_same_tokens(
    pairs: list[PreferencePair], source: Path | str, target: Path | str, lengths: dict[str, Any]
) -> None:
    """Check that both models split the pairs into the same tokens.

    Raises:
        UserError: they do not.
    """
    own, other = (
        tokenize_pairs(pairs, AutoTokenizer.from_pretrained(place), **lengths).pairs
        for place in (source, target)
    )
    if own != other:
        raise UserError(
            "A model whose masks are transferred has another tokenizer than the model that is "
            "trained; choose transfer.same_model and transfer.other_model with the tokenizer of "
            "model.sentiment."
        )
