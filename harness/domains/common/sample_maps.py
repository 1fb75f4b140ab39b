"""Token maps of a few sampled responses, for the viewer of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.methods import METHOD_TABLE, method_code
from harness.domains.common.stages import TRAINING
from harness.graph.stages import Stage
from harness.graph.store import Store

MAPPED = 16
"""Responses whose token maps are computed, the first ones of a stage [ours]."""

_TRAIN = "harness.domains.common.work.train:train_policy"


def map_stage(responses: Stage) -> Stage | None:
    """Return the stage that computes the token maps of a model's own responses.

    Everything that it needs follows from the responses: the model, the model that its training
    started from, and the lengths of training.

    Args:
        responses: a stage of `common.work.generate` that answers held-out prompts.

    Returns:
        The stage; None if the model does not come from a training run of the experiment.
    """
    run = responses.inputs.get("model")
    if run is None or run.function != _TRAIN:
        return None
    training = run.config["training"]
    return Stage(
        f"token maps of the {responses.name}",
        "harness.domains.common.work.sample_maps:map_responses",
        {
            "responses": MAPPED,
            "max_length": training["max_length"],
            "max_prompt_length": training["max_prompt_length"],
            "device": run.config["device"],
            "model": run.config["model"],
        },
        {
            "responses": responses,
            "pairs": responses.inputs["pairs"],
            "run": run,
            **{name: stage for name, stage in run.inputs.items() if name == "model"},
        },
        run.files,
        code=method_code(run.config["method"]),
        without=METHOD_TABLE,
        libraries=TRAINING,
        seconds_hint=4,
    )


def read_maps(store: Store, responses: Stage) -> Mapping[str, Any]:
    """Return the token maps of a stage's responses, by the pair's id; empty if there are none."""
    stage = map_stage(responses)
    if stage is None or not store.folder(stage.address).is_dir():
        return {}
    found: Mapping[str, Any] = store.read_json(stage, "maps.json")["responses"]
    return found
