"""Work of the stages that several domains share."""

from __future__ import annotations

import math

from harness.commands.plan.cost_model import (
    FLOAT32,
    checkpoint_bytes,
    forward_flops,
    model_bytes,
    trained_adapters,
    training_flops,
    training_memory,
)
from harness.commands.plan.model_sizes import base_shape, folder_shape, hub_shape
from harness.commands.plan.sizes import Sizes, row_of
from harness.commands.plan.work import Readers, Work, sampled
from harness.graph.stages import Stage
from sparsepo.registry import method_class

_CACHED = 8.0
"""Bytes of a response token in a reference cache: its log-probability and MaPO's mask."""
_FIRST_STEPS_TAKEN = 0.5
"""Share of a base model's first steps that are taken before their loss is reached; measured."""


def _base(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, base_shape(stage.config)
    steps = config["steps"] + config["first_steps"] * _FIRST_STEPS_TAKEN
    tokens = steps * config["batch_size"] * config["context"]
    flops = training_flops(shape, tokens, config["context"], tokens)
    return Work(flops, disk=FLOAT32 * shape.parameters)


def _converted(stage: Stage, sizes: Sizes) -> Work:
    shape = sizes.made(stage)
    return Work(disk=FLOAT32 * shape.parameters, units={"converted weights": shape.parameters})


def _merged(stage: Stage, sizes: Sizes) -> Work:
    return Work(disk=FLOAT32 * sizes.made(stage).parameters)


def _judge_model(stage: Stage, sizes: Sizes) -> Work:
    shape, pairs = sizes.shape(stage), sizes.pairs(stage.inputs["pairs"])
    length = pairs.prompt + pairs.response
    tokens = 2 * pairs.train * stage.config["train"]["epochs"] * length
    return Work(training_flops(shape, tokens, length, 0.0))


def trained_on_pairs(stage: Stage, sizes: Sizes) -> Work:
    """Return the work of training on given pairs, with the reference's passes and the last scores.

    Args:
        stage: the stage that trains.
        sizes: those of its model and pairs.

    Raises:
        UnknownSizeError: they cannot be known before the run.
    """
    config = stage.config
    training = config["training"]
    needs = method_class(config["method"]).needs
    shape, pairs = sizes.shape(stage), sizes.pairs(stage.inputs["pairs"])
    row, predicted = row_of(pairs, training, needs.rejected)
    seen = pairs.train * training["epochs"]
    recompute = training["activation_checkpointing"]
    adapters = trained_adapters(shape, training)
    flops = training_flops(shape, seen * row, row, seen * predicted, recompute, adapters)
    online = needs.online_reference or (needs.reference and "reference" not in stage.inputs)
    passes = (1 if online else 0) + len(needs.models) + (1 if needs.mismatched else 0)
    flops += passes * forward_flops(shape, seen * row, row, seen * predicted)
    steps = math.ceil(seen / training["batch_size"])
    scored = pairs.test
    if training["validation_steps"]:
        scored += pairs.validation * (steps // training["validation_steps"] + 1)
    both = 2 if online else 1
    full_row, full_predicted = row_of(pairs, training, True)
    flops += both * forward_flops(shape, scored * full_row, full_row, scored * full_predicted)
    memory = training_memory(
        shape, training, rejected=needs.rejected, reference=online, kl=needs.kl
    )
    made = model_bytes(shape, training)
    return Work(
        flops,
        training["precision"],
        units={"optimizer steps": steps, "pairs": pairs.train + scored},
        memory=memory,
        disk=made,
        checkpoints=checkpoint_bytes(shape, training),
    )


def _cache(stage: Stage, sizes: Sizes) -> Work:
    training = stage.config["training"]
    shape, pairs = sizes.shape(stage), sizes.pairs(stage.inputs["pairs"])
    row, predicted = row_of(pairs, training, True)
    count = pairs.train + pairs.validation
    flops = forward_flops(shape, count * row, row, count * predicted)
    return Work(
        flops,
        training["precision"],
        units={"pairs": count},
        disk=count * predicted * _CACHED,
    )


def _responses(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, sizes.shape(stage)
    pairs = sizes.pairs(stage.inputs["pairs"])
    count = min(config["prompts"], pairs.test)
    flops, decoded = sampled(stage, shape, count, pairs.prompt, config["max_new_tokens"], count)
    return Work(flops, "float32", decoded, {"responses": count})


def _maps_of_responses(stage: Stage, sizes: Sizes) -> Work:
    return mapped(stage, sizes, stage.config["responses"])


def mapped(stage: Stage, sizes: Sizes, count: float) -> Work:
    """Return the work of passes of policy and reference over pairs, with masks and KL.

    Args:
        stage: the stage that measures.
        sizes: those of its model and pairs.
        count: pairs, as far as there are as many; infinity for all that it trained on.

    Raises:
        UnknownSizeError: the sizes cannot be known before the run.
    """
    shape, pairs = sizes.shape(stage), sizes.pairs(stage.inputs["pairs"])
    count = min(count, pairs.train if math.isinf(count) else pairs.test)
    row, predicted = row_of(pairs, stage.config, True)
    flops = 2 * forward_flops(shape, count * row, row, count * predicted)
    return Work(flops, units={"mapped pairs": count})


def _verdicts(stage: Stage, sizes: Sizes) -> Work:
    judge = stage.config["judge"]
    pairs = sizes.pairs(stage.inputs["pairs"])
    count = stage.config.get("pairs") or pairs.test
    if judge["kind"] in ("rules", "endpoint"):
        return Work(units={f"{judge['kind']} verdicts": count})
    source = stage.inputs.get("judge")
    if source is not None:
        shape = sizes.shape(source)
    elif "judge" in stage.files:
        shape = folder_shape(stage.files["judge"])
    else:
        shape = hub_shape(str(judge["model"]))
    length = pairs.prompt + pairs.response
    return Work(forward_flops(shape, 2 * count * length, length, 0.0))


READERS: Readers = {
    "base models": {"common.work.base:train_base": _base},
    "training": {
        "common.work.train:train_policy": trained_on_pairs,
        "common.work.trial:train_trial": trained_on_pairs,
        "common.work.reward_model:train_judge": _judge_model,
    },
    "reference caches": {"common.work.reference:build_reference_cache": _cache},
    "models from GGUF files": {"common.work.convert:convert_gguf": _converted},
    "merged models": {"common.work.merge:merge_adapters": _merged},
    "sampling": {"common.work.generate:generate": _responses},
    "judging": {
        "common.work.verdicts:judge_responses": _verdicts,
        "common.work.verdicts:judge_labels": _verdicts,
    },
    "measuring": {"common.work.sample_maps:map_responses": _maps_of_responses},
}
