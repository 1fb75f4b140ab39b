"""Work of the stages of sentiment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from harness.commands.plan.cost_model import (
    Shape,
    forward_flops,
    trained_adapters,
    training_flops,
)
from harness.commands.plan.model_sizes import folder_shape, hub_shape
from harness.commands.plan.sizes import Sizes, ranked_pairs, row_of
from harness.commands.plan.work import Reader, Readers, Work, sampled
from harness.commands.plan.workloads.common import mapped, trained_on_pairs
from harness.graph.stages import Stage
from sparsepo.registry import method_class
from tasks.sentiment.rewards import TRAINED, VADER

_MINILM = Shape(6, 384, 1536, 0, 22_713_216)
"""The encoder of the reward that is trained on labelled texts."""


def _completions(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, sizes.shape(stage)
    count = config["train_prompts"] + config["test_prompts"]
    prompt = sum(config["prefix_tokens"]) / 2
    drawn = config["completions"] * count
    flops, decoded = sampled(stage, shape, drawn, prompt, config["new_tokens"], count)
    return Work(flops, "float32", decoded, {"responses": drawn})


def _ranked(stage: Stage, sizes: Sizes) -> Work:
    samples = stage.inputs["samples"].config
    count = samples["completions"] * (samples["train_prompts"] + samples["test_prompts"])
    length = sum(samples["prefix_tokens"]) / 2 + samples["new_tokens"]
    return _rewarded(stage, sizes, count, length)


def _rewarded(stage: Stage, sizes: Sizes, count: float, length: float) -> Work:
    reward = stage.config["reward"]["model"]
    if reward == VADER:
        return Work(units={"rewards": count})
    if reward == TRAINED:
        return Work(forward_flops(_MINILM, count * length, length, 0.0))
    if "reward" in stage.files:
        shape = folder_shape(stage.files["reward"])
    else:
        shape = hub_shape(reward)
    return Work(forward_flops(shape, count * length, length, 0.0))


def _evaluated_training(stage: Stage, sizes: Sizes) -> Work:
    trained = trained_on_pairs(stage, sizes)
    steps = trained.units["optimizer steps"]
    every = stage.config["evaluations"]["steps"]
    times = steps // every + (1 if steps % every else 0)
    return _with_evaluations(stage, sizes, trained, times)


def _sampled_training(stage: Stage, sizes: Sizes) -> Work:
    """Training on samples of the policy: as on pairs, and the samples and their rewards."""
    trained = _evaluated_training(stage, sizes)
    config, shape = stage.config, sizes.shape(stage)
    pairs, rollout = sizes.pairs(stage.inputs["pairs"]), config["rollout"]
    prompts = trained.units["optimizer steps"] * config["training"]["batch_size"]
    drawn = prompts * rollout["samples_per_prompt"]
    flops, decoded = sampled(stage, shape, drawn, pairs.prompt, rollout["max_new_tokens"], prompts)
    if method_class(config["method"]).needs.rollout:
        # All samples are trained on, two in a row, and read once before that.
        row, predicted = row_of(pairs, config["training"], True)
        read, more = drawn / 2, drawn / 2 - prompts
        adapters = trained_adapters(shape, config["training"])
        flops += training_flops(shape, more * row, row, more * predicted, adapters=adapters)
        flops += 2 * forward_flops(shape, read * row, row, read * predicted)
    units = {
        **trained.units,
        "responses": trained.units["responses"] + drawn,
        "rewards": drawn,
    }
    return replace(
        trained,
        flops=trained.flops + flops,
        decoded=trained.decoded + decoded,
        units=units,
    )


def _diversity(stage: Stage, sizes: Sizes) -> Work:
    config = stage.config
    run = stage.inputs.get("run")
    shape = sizes.shape(stage) if run is None else sizes.made(run)
    prompt = sizes.pairs(stage.inputs["pairs"]).prompt
    count = config["prompts"] * config["samples"]
    flops, decoded = sampled(stage, shape, count, prompt, config["new_tokens"], config["prompts"])
    return Work(flops, "float32", decoded, {"responses": count})


def _evaluated_start(stage: Stage, sizes: Sizes) -> Work:
    return _with_evaluations(stage, sizes, Work(), 1)


def _with_evaluations(stage: Stage, sizes: Sizes, work: Work, times: float) -> Work:
    values, shape = stage.config["evaluations"], sizes.shape(stage)
    ranked = ranked_pairs(stage.inputs["pairs"])
    pairs = sizes.pairs(stage.inputs["pairs"])
    prompts = ranked.config["test_prompts"]
    new = values["new_tokens"]
    flops, decoded = sampled(stage, shape, times * prompts, pairs.prompt, new, times * prompts)
    length = pairs.prompt + new
    flops += times * forward_flops(shape, prompts * length, length, prompts * new)
    if values["token_pairs"]:
        row, predicted = pairs.prompt + 2 * pairs.response, 2 * pairs.response
        # Tokens are read at the start too, whose responses another stage has sampled.
        count = (times + 1) * values["token_pairs"]
        flops += 2 * forward_flops(shape, count * row, row, count * predicted)
    units = {**work.units, "responses": times * prompts, "evaluations": times}
    return replace(work, flops=work.flops + flops, decoded=decoded, units=units)


def _scored_responses(stage: Stage, sizes: Sizes) -> Work:
    shape, pairs = sizes.shape(stage), sizes.pairs(stage.inputs["pairs"])
    count = _responses_of(stage.inputs["run"], sizes)
    length = pairs.prompt + pairs.response
    rewarded = _rewarded(stage, sizes, count, length)
    flops = forward_flops(shape, count * length, length, count * pairs.response)
    return Work(rewarded.flops + flops, units=rewarded.units)


def _responses_of(run: Stage, sizes: Sizes) -> float:
    """Return the number of responses that a run draws at its evaluations and in training."""
    function = run.function.removeprefix("harness.domains.")
    found = [readers[function] for readers in _RUNS.values() if function in readers]
    return found[0](run, sizes).units.get("responses", 0.0) if found else 0.0


def _validated_reviews(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, sizes.made(stage.inputs["run"])
    count = stage.inputs["prompts"].config["prompts"]
    prompt = sum(stage.inputs["prompts"].config["prefix_tokens"]) / 2
    new = config["max_new_tokens"]
    flops, decoded = sampled(stage, shape, count, prompt, new, count)
    flops += 2 * forward_flops(shape, count * (prompt + new), prompt + new, count * new)
    return Work(flops, "float32", decoded, {"responses": count})


def _labels(stage: Stage, sizes: Sizes) -> Work:
    return mapped(stage, sizes, stage.config.get("pairs", 1))


def _extracted(stage: Stage, sizes: Sizes) -> Work:
    return mapped(stage, sizes, math.inf)


def _rankings(stage: Stage, sizes: Sizes) -> Work:
    return Work(units={"bootstraps": stage.config["replicates"]})


_RUNS: Mapping[str, Mapping[str, Reader]] = {
    "training with evaluations": {
        "sentiment.work.train:train_and_evaluate": _evaluated_training,
        "sentiment.work.chosen:train_chosen": _evaluated_training,
        "sentiment.work.start:evaluate_start": _evaluated_start,
    },
    "training on samples": {"sentiment.work.rollout:train_on_samples": _sampled_training},
}
"""The runs whose responses are scored."""

READERS: Readers = {
    **_RUNS,
    "sampling": {
        "sentiment.work.samples:sample_completions": _completions,
        "sentiment.work.diversity:measure_diversity": _diversity,
    },
    "reward and KL": {
        "sentiment.work.preferences:rank_completions": _ranked,
        "sentiment.work.score:score_responses": _scored_responses,
    },
    "validation of trials": {"sentiment.work.validation:measure_trial": _validated_reviews},
    "measuring": {
        "sentiment.work.labels:label_pairs": _labels,
        "sentiment.work.maps:map_tokens": _labels,
        "sentiment.work.masks:extract_masks": _extracted,
        "sentiment.work.mask_controls:oracle_masks": _labels,
        "sentiment.work.rankings:rank_tokens": _rankings,
        "sentiment.work.rankings:rank_baselines": _rankings,
        "sentiment.work.mask_rankings:rank_masks": _rankings,
    },
}
