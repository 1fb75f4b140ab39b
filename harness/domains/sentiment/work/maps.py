"""The stage that computes the token maps of a pair under trained models."""

from __future__ import annotations

from harness.domains.common.work.files import read_pairs_file, write_json
from harness.domains.common.work.token_maps import maps_of_run
from harness.graph.stages import StageContext
from sparsepo.analysis.maps import document

MAPS = "maps.json"


def map_tokens(context: StageContext) -> None:
    """Write maps.json: the token maps of one held-out pair under each model, in the given order.

    Configuration: `labels` (the models' labels), `pair` (its index among the test pairs; the last
    one if there are fewer), `max_length`, `max_prompt_length`, `device`, `model` (the
    reference's hub id, or None). Inputs: "pairs", one run for each label, "run0", "run1" …, and
    "model" (the reference) unless it comes from outside.
    """
    config = context.config
    pairs = read_pairs_file(context.inputs["pairs"] / "test.jsonl")
    pair = pairs[min(config["pair"], len(pairs) - 1)]
    models = [
        maps_of_run(context, [pair], f"run{index}", label)
        for index, label in enumerate(config["labels"])
    ]
    maps = document(models)
    for model in maps["models"]:
        # Paths on this machine are not part of the result.
        model["model"] = model["reference"] = None
    write_json({**maps, "pair_id": pair.pair_id}, context.work / MAPS)
