"""The stage that computes the token maps of a model's own responses."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from harness.domains.common.work.files import read_pairs_file, write_json
from harness.domains.common.work.token_maps import maps_of_run
from harness.graph.stages import StageContext
from sparsepo.analysis.rounding import rounded
from sparsepo.data.jsonl import read_jsonl
from sparsepo.errors import UserError
from sparsepo.registry import load_plugin


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
    maps = maps_of_run(context, own)
    return {pair.pair_id: rounded(asdict(pair.chosen)) for pair in maps.pairs}
