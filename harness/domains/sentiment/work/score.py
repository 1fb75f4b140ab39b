"""The stage that scores the responses sampled during training, without sampling again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.domains.common.work.files import starting_model, write_json
from harness.domains.sentiment.work.common import PROMPTS, RESPONSES
from harness.domains.sentiment.work.reward import reward_of
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl
from tasks.metrics.response_kl import sequence_logps
from tasks.sentiment.rewards import score_texts

POINTS = "points.json"


def score_responses(context: StageContext) -> None:
    """Write points.json: reward and log-probabilities of each sampled response, step by step.

    Configuration: `reward` (make_reward's arguments), `batch_size`, `device`, `model`. Inputs:
    "run", "pairs", "start" (the points of the initial model, which every run begins with) unless
    it is the run, and "model" (the reference) unless it comes from outside.

    Each point has `step`, `rewards` (of prompt and response as one text; None if the reward model
    gives none), `logps` and `ref_logps` (log π(y|x) and log π_ref(y|x), nats), `truncated_prompts`
    (number of prompts truncated to fit the context), `unfinished` (number of responses that reached
    the longest length), `tokens` (mean length) and `ended` (share of responses that end with EOS).
    """
    config = context.config
    start = starting_model(context)
    tokenizer = AutoTokenizer.from_pretrained(start)
    # As the policies were trained, whatever the checkpoint is stored in.
    reference: Any = AutoModelForCausalLM.from_pretrained(start, dtype="float32")
    reference = reference.to(config["device"]).eval()
    texts = json.loads((context.inputs["pairs"] / PROMPTS).read_text(encoding="utf-8"))
    reward = reward_of(context)
    evaluations = {row["step"]: row for row in read_jsonl(context.inputs["run"] / RESPONSES)}
    points = []
    if "start" in context.inputs:
        first = json.loads((context.inputs["start"] / POINTS).read_text(encoding="utf-8"))
        points += first["points"]
        for point in points:
            evaluations.pop(point["step"])
    for done, (step, seen) in enumerate(sorted(evaluations.items())):
        context.progress(done, len(evaluations), "points")
        responses = tokenizer.batch_decode(seen["ids"], skip_special_tokens=True)
        scored = score_texts(reward, [p + r for p, r in zip(texts, responses, strict=True)])
        base = sequence_logps(reference, seen["prompts"], seen["ids"], config["batch_size"])
        points.append(
            {
                "step": step,
                "rewards": scored.scores,
                "logps": seen["logps"],
                "ref_logps": base,
                "truncated_prompts": seen["truncated_prompts"],
                "unfinished": seen["unfinished"],
                "tokens": float(np.mean([len(ids) for ids in seen["ids"]])),
                "ended": float(np.mean([tokenizer.eos_token_id in ids for ids in seen["ids"]])),
            }
        )
    write_json({"reward": reward.name, "points": points}, context.work / POINTS)
