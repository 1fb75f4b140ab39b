"""Token maps under the model of a training stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.domains.common.work.files import MODEL, starting_model
from harness.graph.stages import StageContext
from sparsepo.analysis.maps import ModelMaps, token_maps
from sparsepo.analysis.trained import load_trained
from sparsepo.types import PreferencePair


def maps_of_run(
    context: StageContext,
    pairs: Sequence[PreferencePair],
    run: str = "run",
    label: str | None = None,
) -> ModelMaps:
    """Return the token maps of pairs under a trained model; long responses are truncated.

    Args:
        context: of a stage whose configuration has `max_length`, `max_prompt_length`, `device`,
            `model` (the reference's hub id, or None) and, if it is not the usual one, `batch_size`,
            and whose inputs have the run, and "model" (the reference) unless it comes from outside.
        pairs: what to map.
        run: name of the input with the trained model.
        label: what the maps call the model.
    """
    config = context.config
    trained = load_trained(
        context.inputs[run] / MODEL,
        reference=starting_model(context),
        label=label,
        # As training had it: the reference's checkpoint may be stored in half precision.
        dtype="float32",
        device=torch.device(config["device"]),
    )
    return token_maps(
        trained,
        pairs,
        max_length=config["max_length"],
        max_prompt_length=config["max_prompt_length"],
        on_long_response="truncate",
        **({"batch_size": config["batch_size"]} if "batch_size" in config else {}),
    ).maps
