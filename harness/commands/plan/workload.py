"""What a stage computes: passes over tokens, generated tokens, and work of the processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from harness.commands.plan.benchmarks import planned
from harness.commands.plan.cost_model import (
    FLOAT32,
    HALF,
    Decoding,
    Memory,
    Shape,
    checkpoint_bytes,
    decoding,
    forward_flops,
    model_bytes,
    trained_adapters,
    training_flops,
    training_memory,
)
from harness.commands.plan.facts import WORLDS
from harness.commands.plan.sizes import (
    Sizes,
    UnknownSizeError,
    base_shape,
    capped,
    drawn_length,
    folder_shape,
    hub_shape,
    problem_counts,
    prompt_of_code,
    ranked_pairs,
    row_of,
)
from harness.graph.stages import Stage
from sparsepo.registry import method_class
from tasks.sentiment.rewards import TRAINED, VADER

_NO_DECODING = Decoding()
_ENCODER_TOKENS = 40.0
"""Tokens of a summary for BERTScore."""
_MINILM = Shape(6, 384, 1536, 0, 22_713_216)
"""The encoder of the reward that is trained on labelled texts."""
_NLI_PAIRS, _NLI_TOKENS = 30.0, 60.0
"""Pairs of sentences that EDNA and SummaC compare per summary, and their tokens; assumed."""
_CACHED = 8.0
"""Bytes of a response token in a reference cache: its log-probability and MaPO's mask."""
_FIRST_STEPS_TAKEN = 0.5
"""Share of a base model's first steps that are taken before their loss is reached; measured."""


@dataclass(frozen=True)
class Work:
    """What one stage computes."""

    flops: float = 0.0
    """Of forward and training passes."""
    precision: str = "float32"
    decoded: Decoding = _NO_DECODING
    units: Mapping[str, float] = field(default_factory=dict)
    """Work of the processor, by name; see `processor.UNITS`."""
    memory: Memory | None = None
    """On a GPU, of a training run."""
    disk: float = 0.0
    """Bytes that stay in the store."""
    checkpoints: float = 0.0
    """Bytes on disk while it runs."""
    unknown: str | None = None
    """Why its FLOPs are not known."""
    kind: str = "data and choices"
    """The row of the plan that it counts in."""


class Workloads:
    """Returns the work of stages; sizes that several stages share are found once."""

    def __init__(self) -> None:
        self.sizes = Sizes()
        by_kind: dict[str, dict[str, Callable[[Stage], Work]]] = {
            "base models": {
                "common.work.base:train_base": self._base,
                "summarization.work.nli:train_tiny_nli": self._tiny_nli,
            },
            "training": {
                "common.work.train:train_policy": self._training,
                "common.work.trial:train_trial": self._training,
                "common.work.reward_model:train_judge": self._judge_model,
            },
            "training with evaluations": {
                "sentiment.work.train:train_and_evaluate": self._evaluated_training,
                "sentiment.work.chosen:train_chosen": self._evaluated_training,
                "sentiment.work.start:evaluate_start": self._evaluated_start,
            },
            "training on samples": {
                "sentiment.work.rollout:train_on_samples": self._sampled_training,
            },
            "reference caches": {
                "common.work.reference:build_reference_cache": self._cache,
            },
            "models from GGUF files": {
                "common.work.convert:convert_gguf": self._converted,
            },
            "merged models": {
                "common.work.merge:merge_adapters": self._merged,
            },
            "sampling": {
                "common.work.generate:generate": self._responses,
                "code.work.samples:sample": self._programs,
                "sentiment.work.samples:sample_completions": self._completions,
                "sentiment.work.diversity:measure_diversity": self._diversity,
                "summarization.work.samples:sample_summaries": self._summaries,
            },
            "leaderboards": {
                "dialogue.work.leaderboard:evaluate": self._leaderboard,
            },
            "programs": {
                "code.work.judge:judge_samples": self._judged_programs,
            },
            "judging": {
                "common.work.verdicts:judge_responses": self._verdicts,
                "common.work.verdicts:judge_labels": self._verdicts,
            },
            "validation of trials": {
                "dialogue.work.validation:measure_trial": self._validated_dialogue,
                "code.work.validation:measure_trial": self._validated_programs,
                "sentiment.work.validation:measure_trial": self._validated_reviews,
            },
            "reward and KL": {
                "sentiment.work.preferences:rank_completions": self._ranked,
                "sentiment.work.score:score_responses": self._scored_responses,
            },
            "scoring of summaries": {
                "summarization.work.scores:score_summaries": self._summary_scores,
            },
            "measuring": {
                "common.work.sample_maps:map_responses": self._maps_of_responses,
                "dialogue.work.masks:measure_masks": self._masks,
                "sentiment.work.labels:label_pairs": self._labels,
                "sentiment.work.maps:map_tokens": self._labels,
                "sentiment.work.masks:extract_masks": self._extracted,
                "sentiment.work.mask_controls:oracle_masks": self._labels,
                "sentiment.work.rankings:rank_tokens": self._rankings,
                "sentiment.work.rankings:rank_baselines": self._rankings,
                "sentiment.work.mask_rankings:rank_masks": self._rankings,
                "summarization.work.correlations:correlate": self._correlations,
            },
        }
        self._readers = {
            function: (kind, reader)
            for kind, readers in by_kind.items()
            for function, reader in readers.items()
        }

    def of(self, stage: Stage) -> Work:
        """Return what a stage computes; data, choices and other small stages take their start."""
        found = self._readers.get(stage.function.removeprefix("harness.domains."))
        if found is None:
            return Work()
        kind, reader = found
        try:
            return replace(reader(stage), kind=kind)
        except UnknownSizeError as error:
            return Work(unknown=str(error), kind=kind)

    # Training

    def _base(self, stage: Stage) -> Work:
        config, shape = stage.config, base_shape(stage.config)
        steps = config["steps"] + config["first_steps"] * _FIRST_STEPS_TAKEN
        tokens = steps * config["batch_size"] * config["context"]
        flops = training_flops(shape, tokens, config["context"], tokens)
        return Work(flops, disk=FLOAT32 * shape.parameters)

    def _converted(self, stage: Stage) -> Work:
        shape = self.sizes.made(stage)
        return Work(disk=FLOAT32 * shape.parameters, units={"converted weights": shape.parameters})

    def _merged(self, stage: Stage) -> Work:
        return Work(disk=FLOAT32 * self.sizes.made(stage).parameters)

    def _tiny_nli(self, stage: Stage) -> Work:
        return Work(units={"tiny NLI models": 1})

    def _judge_model(self, stage: Stage) -> Work:
        shape, pairs = self.sizes.shape(stage), self.sizes.pairs(stage.inputs["pairs"])
        length = pairs.prompt + pairs.response
        tokens = 2 * pairs.train * stage.config["train"]["epochs"] * length
        return Work(training_flops(shape, tokens, length, 0.0))

    def _training(self, stage: Stage) -> Work:
        config = stage.config
        training = config["training"]
        needs = method_class(config["method"]).needs
        shape, pairs = self.sizes.shape(stage), self.sizes.pairs(stage.inputs["pairs"])
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

    def _cache(self, stage: Stage) -> Work:
        training = stage.config["training"]
        shape, pairs = self.sizes.shape(stage), self.sizes.pairs(stage.inputs["pairs"])
        row, predicted = row_of(pairs, training, True)
        count = pairs.train + pairs.validation
        flops = forward_flops(shape, count * row, row, count * predicted)
        return Work(
            flops,
            training["precision"],
            units={"pairs": count},
            disk=count * predicted * _CACHED,
        )

    # Sampling

    def _decoded(
        self, stage: Stage, shape: Shape, count: float, prompt: float, new: float, distinct: float
    ) -> tuple[float, Decoding]:
        """Return the FLOPs of the passes over prompts, and the decoding."""
        size = HALF if stage.config.get("dtype") == "bfloat16" else FLOAT32
        batch = int(stage.options.get("batch_size", 64))
        new = drawn_length(stage, new)
        flops = forward_flops(shape, distinct * prompt, prompt, distinct)
        return flops, decoding(shape, count, prompt, new, batch, size)

    def _responses(self, stage: Stage) -> Work:
        config, shape = stage.config, self.sizes.shape(stage)
        pairs = self.sizes.pairs(stage.inputs["pairs"])
        count = min(config["prompts"], pairs.test)
        flops, decoded = self._decoded(
            stage, shape, count, pairs.prompt, config["max_new_tokens"], count
        )
        return Work(flops, "float32", decoded, {"responses": count})

    def _programs(self, stage: Stage) -> Work:
        config, shape = stage.config, self.sizes.shape(stage)
        problems = problem_counts(stage.inputs["problems"])
        total, decoded, flops = 0.0, _NO_DECODING, 0.0
        prompt = prompt_of_code(stage.inputs["problems"])
        for name, samples in config["samples"].items():
            count = capped(problems[name], config["problems"])
            one, more = self._decoded(
                stage, shape, count * samples, prompt, config["max_new_tokens"], count
            )
            flops, decoded, total = flops + one, decoded + more, total + count * samples
        return Work(flops, _precision(config["dtype"]), decoded, {"responses": total})

    def _completions(self, stage: Stage) -> Work:
        config, shape = stage.config, self.sizes.shape(stage)
        count = config["train_prompts"] + config["test_prompts"]
        prompt = sum(config["prefix_tokens"]) / 2
        drawn = config["completions"] * count
        flops, decoded = self._decoded(stage, shape, drawn, prompt, config["new_tokens"], count)
        return Work(flops, "float32", decoded, {"responses": drawn})

    def _summaries(self, stage: Stage) -> Work:
        config, shape = stage.config, self.sizes.shape(stage)
        posts, prompt = self.sizes.posts(stage.inputs["prompts"])
        total, decoded, flops = 0.0, _NO_DECODING, 0.0
        for temperature in config["temperatures"]:
            # Greedy responses to a prompt are computed once.
            count = posts * (config["samples"] if temperature else 1)
            one, more = self._decoded(stage, shape, count, prompt, config["new_tokens"], posts)
            flops, decoded, total = flops + one, decoded + more, total + count
        return Work(flops, "float32", decoded, {"responses": total})

    # Evaluation

    def _leaderboard(self, stage: Stage) -> Work:
        settings, shape = stage.config["settings"], self.sizes.shape(stage)
        size = HALF if settings["dtype"] == "bfloat16" else FLOAT32
        flops, decoded, requests = 0.0, _NO_DECODING, 0.0
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
            _precision(settings["dtype"]),
            decoded,
            {"requests": requests},
            unknown=f"rows of {', '.join(unknown)} in files" if unknown else None,
        )

    def _masks(self, stage: Stage) -> Work:
        return self._mapped(stage, stage.config["pairs"])

    def _maps_of_responses(self, stage: Stage) -> Work:
        return self._mapped(stage, stage.config["responses"])

    def _labels(self, stage: Stage) -> Work:
        return self._mapped(stage, stage.config.get("pairs", 1))

    def _extracted(self, stage: Stage) -> Work:
        return self._mapped(stage, math.inf)

    def _mapped(self, stage: Stage, count: float) -> Work:
        """Policy and reference over some pairs, with masks and KL."""
        shape, pairs = self.sizes.shape(stage), self.sizes.pairs(stage.inputs["pairs"])
        count = min(count, pairs.train if math.isinf(count) else pairs.test)
        row, predicted = row_of(pairs, stage.config, True)
        flops = 2 * forward_flops(shape, count * row, row, count * predicted)
        return Work(flops, units={"mapped pairs": count})

    def _verdicts(self, stage: Stage) -> Work:
        judge = stage.config["judge"]
        pairs = self.sizes.pairs(stage.inputs["pairs"])
        count = stage.config.get("pairs") or pairs.test
        if judge["kind"] in ("rules", "endpoint"):
            return Work(units={f"{judge['kind']} verdicts": count})
        source = stage.inputs.get("judge")
        if source is not None:
            shape = self.sizes.shape(source)
        elif "judge" in stage.files:
            shape = folder_shape(stage.files["judge"])
        else:
            shape = hub_shape(str(judge["model"]))
        length = pairs.prompt + pairs.response
        return Work(forward_flops(shape, 2 * count * length, length, 0.0))

    def _validated_dialogue(self, stage: Stage) -> Work:
        config, shape = stage.config, self.sizes.made(stage.inputs["run"])
        count = stage.inputs["validation"].config["pairs"]
        prompt = WORLDS["dialogue"].prompt
        flops, decoded = self._decoded(stage, shape, count, prompt, config["max_new_tokens"], count)
        return Work(flops, "float32", decoded, {"responses": count})

    def _validated_programs(self, stage: Stage) -> Work:
        config, shape = stage.config["sampling"], self.sizes.made(stage.inputs["run"])
        count = problem_counts(stage.inputs["problems"])["mbpp_validation"]
        samples = count * config["samples"]["mbpp_validation"]
        prompt = prompt_of_code(stage.inputs["problems"])
        flops, decoded = self._decoded(
            stage, shape, samples, prompt, config["max_new_tokens"], count
        )
        units = {"responses": samples, "programs": samples}
        return Work(flops, _precision(config["dtype"]), decoded, units)

    def _validated_reviews(self, stage: Stage) -> Work:
        config, shape = stage.config, self.sizes.made(stage.inputs["run"])
        count = stage.inputs["prompts"].config["prompts"]
        prompt = sum(stage.inputs["prompts"].config["prefix_tokens"]) / 2
        new = config["max_new_tokens"]
        flops, decoded = self._decoded(stage, shape, count, prompt, new, count)
        flops += 2 * forward_flops(shape, count * (prompt + new), prompt + new, count * new)
        return Work(flops, "float32", decoded, {"responses": count})

    def _judged_programs(self, stage: Stage) -> Work:
        samples = stage.inputs["samples"].config
        problems = problem_counts(stage.inputs["problems"])
        count = sum(
            capped(problems[name], samples["problems"]) * samples["samples"][name]
            for name in stage.config["benchmarks"]
        )
        embedded = "world" in stage.inputs["problems"].inputs
        return Work(units={"programs of the world" if embedded else "programs": count})

    def _ranked(self, stage: Stage) -> Work:
        samples = stage.inputs["samples"].config
        count = samples["completions"] * (samples["train_prompts"] + samples["test_prompts"])
        length = sum(samples["prefix_tokens"]) / 2 + samples["new_tokens"]
        return self._rewarded(stage, count, length)

    def _rewarded(self, stage: Stage, count: float, length: float) -> Work:
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

    def _evaluated_training(self, stage: Stage) -> Work:
        trained = self._training(stage)
        steps = trained.units["optimizer steps"]
        every = stage.config["evaluations"]["steps"]
        times = 1 + steps // every + (1 if steps % every else 0)
        return self._with_evaluations(stage, trained, times)

    def _sampled_training(self, stage: Stage) -> Work:
        """Training on samples of the policy: as on pairs, and the samples and their rewards."""
        trained = self._evaluated_training(stage)
        config, shape = stage.config, self.sizes.shape(stage)
        pairs, rollout = self.sizes.pairs(stage.inputs["pairs"]), config["rollout"]
        prompts = trained.units["optimizer steps"] * config["training"]["batch_size"]
        drawn = prompts * rollout["samples_per_prompt"]
        flops, decoded = self._decoded(
            stage, shape, drawn, pairs.prompt, rollout["max_new_tokens"], prompts
        )
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

    def _diversity(self, stage: Stage) -> Work:
        config = stage.config
        run = stage.inputs.get("run")
        shape = self.sizes.shape(stage) if run is None else self.sizes.made(run)
        prompt = self.sizes.pairs(stage.inputs["pairs"]).prompt
        count = config["prompts"] * config["samples"]
        flops, decoded = self._decoded(
            stage, shape, count, prompt, config["new_tokens"], config["prompts"]
        )
        return Work(flops, "float32", decoded, {"responses": count})

    def _evaluated_start(self, stage: Stage) -> Work:
        return self._with_evaluations(stage, Work(), 1)

    def _with_evaluations(self, stage: Stage, work: Work, times: float) -> Work:
        values, shape = stage.config["evaluations"], self.sizes.shape(stage)
        ranked = ranked_pairs(stage.inputs["pairs"])
        pairs = self.sizes.pairs(stage.inputs["pairs"])
        prompts = ranked.config["test_prompts"]
        new = values["new_tokens"]
        flops, decoded = self._decoded(
            stage, shape, times * prompts, pairs.prompt, new, times * prompts
        )
        length = pairs.prompt + new
        flops += times * forward_flops(shape, prompts * length, length, prompts * new)
        if values["token_pairs"]:
            row, predicted = pairs.prompt + 2 * pairs.response, 2 * pairs.response
            count = times * values["token_pairs"]
            flops += 2 * forward_flops(shape, count * row, row, count * predicted)
        units = {**work.units, "responses": times * prompts, "evaluations": times}
        return replace(work, flops=work.flops + flops, decoded=decoded, units=units)

    def _scored_responses(self, stage: Stage) -> Work:
        run = self.of(stage.inputs["run"])
        shape, pairs = self.sizes.shape(stage), self.sizes.pairs(stage.inputs["pairs"])
        count = run.units.get("responses", 0.0)
        length = pairs.prompt + pairs.response
        rewarded = self._rewarded(stage, count, length)
        flops = forward_flops(shape, count * length, length, count * pairs.response)
        return Work(rewarded.flops + flops, units=rewarded.units)

    def _rankings(self, stage: Stage) -> Work:
        return Work(units={"bootstraps": stage.config["replicates"]})

    def _summary_scores(self, stage: Stage) -> Work:
        config, samples = stage.config, stage.inputs["samples"].config
        posts, _prompt = self.sizes.posts(stage.inputs["prompts"])
        count = posts * samples["samples"] * len(samples["temperatures"])
        flops = 0.0
        if config["encoder"] == "minilm" or "nli" in stage.inputs:
            return Work(units={"summaries": count})
        if config["encoder"] is not None:
            encoder = hub_shape(config["encoder"])
            texts = count + posts
            flops += forward_flops(encoder, texts * _ENCODER_TOKENS, _ENCODER_TOKENS, 0.0)
        if config["nli"] is not None:
            nli = hub_shape(config["nli"])
            flops += forward_flops(nli, count * _NLI_PAIRS * _NLI_TOKENS, _NLI_TOKENS, 0.0)
        return Work(flops, units={"summaries": count})

    def _correlations(self, stage: Stage) -> Work:
        return Work(units={"correlations": stage.config["replicates"]})


def _precision(dtype: str) -> str:
    """Return the precision of products with weights of a dtype; "auto" is taken for float32."""
    return "bfloat16" if dtype in ("bfloat16", "float16") else "float32"
