"""Loads a trained model from its folder: policy, masks, method and reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparsepo.batches.attention import Attention, use_attention
from sparsepo.data.hub import require_model
from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.models.activations import fuse_activations
from sparsepo.reference.online import Reference, unwrap_peft
from sparsepo.registry import get_method
from sparsepo.training.loading import load_policy, load_tokenizer
from sparsepo.training.policy import METHOD_FILE, PolicyWithMasks, make_masks, read_description
from sparsepo.training.sources import is_gguf


@dataclass(frozen=True)
class TrainedModel:
    """A policy with its masks, its method and its reference, ready for analysis."""

    module: PolicyWithMasks
    method: Method
    tokenizer: PreTrainedTokenizerBase
    reference: Reference | None
    """None if the method needs none and none was found."""
    label: str
    """Display name, to distinguish several models."""
    model: str = ""
    """Where the model was loaded from."""
    reference_origin: str | None = None


def load_trained(
    model: str | Path,
    *,
    reference: str | Path | None = None,
    method: Method | None = None,
    label: str | None = None,
    dtype: str = "auto",
    bits: int | None = None,
    attention: Attention = "auto",
    device: torch.device | None = None,
) -> TrainedModel:
    """Return the model that a training run saved in a folder, which may be a checkpoint.

    Args:
        model: the folder, or a hub id if `method` is given.
        reference: folder or hub id of the reference; None uses the one recorded in the folder.
        method: the method of a model whose folder does not record it, such as one trained
            elsewhere.
        label: display name; None uses the method's title.
        dtype: dtype of the weights; "auto" for the checkpoint's.
        bits: 4 or 8 to quantize the weights, as in training.
        attention: the attention implementation, as in POConfig.
        device: the device; None uses CUDA if available.

    Raises:
        UserError: the model cannot be loaded, its method is not recorded, the method needs a
            reference that is missing, or the masks do not match the method.
    """
    for source in (model, reference):
        if source is not None and not is_gguf(source):
            require_model(source)
    found = read_description(Path(model))
    if method is None:
        method = _described_method(found, Path(model))
    elif found is not None:
        raise UserError(
            f"{Path(model) / METHOD_FILE} already records the method; leave out --method."
        )
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def load(source: str) -> PreTrainedModel:
        loaded = load_policy(source, dtype=dtype, bits=bits, device=device)
        fuse_activations(loaded)
        use_attention(unwrap_peft(loaded), attention, device, trained=False)
        return loaded

    origin = str(reference) if reference is not None else _named_reference(found)
    if origin is None and method.needs.reference:
        raise UserError(
            f"{model} does not record the reference that {method.title} needs; give the model that "
            "training started from with --reference."
        )
    policy = load(str(model))
    loaded = None
    if origin is not None:
        try:
            loaded = Reference(load(origin)).to(device)
        except UserError as error:
            if reference is not None:
                raise
            # Without a need for it the reference only serves comparison, and may be missing.
            if method.needs.reference:
                raise UserError(
                    f"The reference '{origin}' recorded in {Path(model) / METHOD_FILE} cannot be "
                    "loaded; give the model that training started from with --reference."
                ) from error
    module = PolicyWithMasks(policy, make_masks(method, loaded.model if loaded else policy))
    module.load_masks(Path(model))
    return TrainedModel(
        module=module.to(device).eval().requires_grad_(False),
        method=method,
        tokenizer=load_tokenizer(str(model)),
        reference=loaded,
        label=label or method.title,
        model=str(model),
        reference_origin=None if loaded is None else origin,
    )


def _described_method(description: object, folder: Path) -> Method:
    if description is None:
        raise UserError(
            f"{folder} contains no {METHOD_FILE}, which records the method of a trained model; "
            "give a folder that `python -m sparsepo train` wrote, or name the method with --method."
        )
    name = values = None
    if isinstance(description, dict):
        name, values = description.get("method"), description.get("hyper_parameters")
    if not isinstance(name, str) or not isinstance(values, dict):
        raise UserError(
            f"{folder / METHOD_FILE} records no method with hyper_parameters; give a folder that "
            "`python -m sparsepo train` wrote."
        )
    return get_method(name, **values)


def _named_reference(description: object) -> str | None:
    name = description.get("reference") if isinstance(description, dict) else None
    return name if isinstance(name, str) else None
