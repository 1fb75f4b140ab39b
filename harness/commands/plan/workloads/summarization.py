"""Work of the stages of summarization."""

from __future__ import annotations

from harness.commands.plan.cost_model import forward_flops
from harness.commands.plan.model_sizes import hub_shape
from harness.commands.plan.sizes import Sizes
from harness.commands.plan.work import NO_DECODING, Readers, Work, sampled
from harness.graph.stages import Stage

_ENCODER_TOKENS = 40.0
"""Tokens of a summary for BERTScore."""
_NLI_PAIRS, _NLI_TOKENS = 30.0, 60.0
"""Pairs of sentences that EDNA and SummaC compare per summary, and their tokens; assumed."""


def _tiny_nli(stage: Stage, sizes: Sizes) -> Work:
    return Work(units={"tiny NLI models": 1})


def _summaries(stage: Stage, sizes: Sizes) -> Work:
    config, shape = stage.config, sizes.shape(stage)
    posts, prompt = sizes.posts(stage.inputs["prompts"])
    total, decoded, flops = 0.0, NO_DECODING, 0.0
    for temperature in config["temperatures"]:
        # Greedy responses to a prompt are computed once.
        count = posts * (config["samples"] if temperature else 1)
        one, more = sampled(stage, shape, count, prompt, config["new_tokens"], posts)
        flops, decoded, total = flops + one, decoded + more, total + count
    return Work(flops, "float32", decoded, {"responses": total})


def _summary_scores(stage: Stage, sizes: Sizes) -> Work:
    config, samples = stage.config, stage.inputs["samples"].config
    posts, _prompt = sizes.posts(stage.inputs["prompts"])
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


def _correlations(stage: Stage, sizes: Sizes) -> Work:
    return Work(units={"correlations": stage.config["replicates"]})


READERS: Readers = {
    "base models": {"summarization.work.nli:train_tiny_nli": _tiny_nli},
    "sampling": {"summarization.work.samples:sample_summaries": _summaries},
    "scoring of summaries": {"summarization.work.scores:score_summaries": _summary_scores},
    "measuring": {"summarization.work.correlations:correlate": _correlations},
}
