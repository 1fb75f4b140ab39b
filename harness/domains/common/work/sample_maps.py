"""The stage that computes the token maps of a model's own responses."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch

from harness.domains.common.work.files import MODEL, read_pairs_file, starting_model, write_json
from harness.graph.stages import StageContext
from sparsepo.analysis.maps import token_maps
from sparsepo.analysis.trained import load_trained
from sparsepo.data.jsonl import read_jsonl
from sparsepo.errors import UserError
from sparsepo.registry import load_plugin

DIGITS = 6


def map_responses(context: StageContext) -> None:
    """Write maps.json: `responses`, pair id → token map; and `reason`, why there are none, or null.

    Each response stands in the place of the pair's chosen one, against the data's rejected one.

    Configuration: `responses` (how many, the first ones), `max_length`, `max_prompt_length`,
    `device`, `model` (the reference's hub id, or None). Inputs: "run", "responses", "pairs", and
    "model" (the reference) unless it comes from outside. Files: "plugin", and "model" if the
    reference is a folder.
    """
    if "plugin" in context.files:
        load_plugin(context.files["plugin"])
    found: dict[str, Any] = {}
    reason = None
    try:
        found = _maps(context)
    except UserError as error:
        # The maps are for readers; without them the experiment is complete.
        reason = str(error)
    write_json({"responses": found, "reason": reason}, context.work / "maps.json")


def _maps(context: StageContext) -> dict[str, Any]:
    config = context.config
    pairs = {pair.pair_id: pair for pair in read_pairs_file(context.inputs["pairs"] / "test.jsonl")}
    rows = list(read_jsonl(context.inputs["responses"] / "responses.jsonl"))
    own = [
        replace(
            pairs[row["pair_id"]],
            chosen=[{"role": "assistant", "content": row["response"]}]
            if not isinstance(pairs[row["pair_id"]].chosen, str)
            else row["response"],
        )
        for row in rows[: config["responses"]]
    ]
    trained = load_trained(
        context.inputs["run"] / MODEL,
        reference=starting_model(context),
        device=torch.device(config["device"]),
    )
    maps = token_maps(
        trained,
        own,
        max_length=config["max_length"],
        max_prompt_length=config["max_prompt_length"],
        on_long_response="truncate",
    ).maps
    return {pair.pair_id: _rounded(asdict(pair.chosen)) for pair in maps.pairs}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
