"""Work of the stages of code."""

from __future__ import annotations

from harness.commands.plan.sizes import Sizes, capped, problem_counts, prompt_of_code
from harness.commands.plan.work import NO_DECODING, Readers, Work, precision_of, sampled
from harness.graph.stages import Stage


def _programs(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, sizes.shape(stage)
    problems = problem_counts(stage.inputs["problems"])
    total, decoded, flops = 0.0, NO_DECODING, 0.0
    prompt = prompt_of_code(stage.inputs["problems"])
    for name, samples in config["samples"].items():
        count = capped(problems[name], config["problems"])
        one, more = sampled(stage, shape, count * samples, prompt, config["max_new_tokens"], count)
        flops, decoded, total = flops + one, decoded + more, total + count * samples
    return Work(flops, precision_of(config["dtype"]), decoded, {"responses": total})


def _validated_programs(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config["sampling"], sizes.made(stage.inputs["run"])
    count = problem_counts(stage.inputs["problems"])["mbpp_validation"]
    samples = count * config["samples"]["mbpp_validation"]
    prompt = prompt_of_code(stage.inputs["problems"])
    flops, decoded = sampled(stage, shape, samples, prompt, config["max_new_tokens"], count)
    units = {"responses": samples, "programs": samples}
    return Work(flops, precision_of(config["dtype"]), decoded, units)


def _judged_programs(stage: Stage, sizes: Sizes) -> Work:
    samples = stage.inputs["samples"].config
    problems = problem_counts(stage.inputs["problems"])
    count = sum(
        capped(problems[name], samples["problems"]) * samples["samples"][name]
        for name in stage.config["benchmarks"]
    )
    embedded = "world" in stage.inputs["problems"].inputs
    return Work(units={"programs of the world" if embedded else "programs": count})


READERS: Readers = {
    "sampling": {"code.work.samples:sample": _programs},
    "programs": {"code.work.judge:judge_samples": _judged_programs},
    "validation of trials": {"code.work.validation:measure_trial": _validated_programs},
}
