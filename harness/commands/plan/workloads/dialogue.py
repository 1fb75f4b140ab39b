"""Work of the stages of dialogue."""

from __future__ import annotations

import math

from harness.commands.plan.benchmarks import planned
from harness.commands.plan.cost_model import FLOAT32, HALF, decoding
from harness.commands.plan.facts import WORLDS
from harness.commands.plan.sizes import Sizes
from harness.commands.plan.work import NO_DECODING, Readers, Work, precision_of, sampled
from harness.commands.plan.workloads.common import mapped
from harness.graph.stages import Stage


def _leaderboard(stage: Stage, sizes: Sizes) -> Work:
    settings, shape = stage.config["settings"], sizes.shape(stage)
    size = HALF if settings["dtype"] == "bfloat16" else FLOAT32
    flops, decoded, requests = 0.0, NO_DECODING, 0.0
    benchmarks, unknown = planned(stage)
    for name, one in benchmarks.items():
        flops += one.flops(shape)
        requests += one.requests
        if one.size.generated:
            longest = (settings["max_gen_toks"] or {}).get(name)
            new = min(longest or math.inf, one.size.generated)
            batch = settings["batch_size"]
            decoded += decoding(shape, one.rows, one.size.prompt, new, batch, size)
    return Work(
        flops,
        precision_of(settings["dtype"]),
        decoded,
        {"requests": requests},
        unknown=f"rows of {', '.join(unknown)} in files" if unknown else None,
    )


def _masks(stage: Stage, sizes: Sizes) -> Work:
    return mapped(stage, sizes, stage.config["pairs"])


def _validated_dialogue(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, sizes.made(stage.inputs["run"])
    count = stage.inputs["validation"].config["pairs"]
    prompt = WORLDS["dialogue"].prompt
    flops, decoded = sampled(stage, shape, count, prompt, config["max_new_tokens"], count)
    return Work(flops, "float32", decoded, {"responses": count})


READERS: Readers = {
    "leaderboards": {"dialogue.work.leaderboard:evaluate": _leaderboard},
    "measuring": {"dialogue.work.masks:measure_masks": _masks},
    "validation of trials": {"dialogue.work.validation:measure_trial": _validated_dialogue},
}
