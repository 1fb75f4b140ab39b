"""Stages that score what was seen during training; scoring again never samples again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.domains.common.work.files import write_json
from harness.domains.common.work.train import starting_model
from harness.domains.sentiment.work.data import LABELS, PROMPTS, reward_of
from harness.domains.sentiment.work.train import LENGTHS, RESPONSES, TOKENS
from harness.graph.stages import StageContext
from tasks.metrics.ranking import rank
from tasks.metrics.response_kl import sequence_logps
from tasks.sentiment.rewards import score_texts

POINTS = "points.json"
RANKINGS = "rankings.npz"
RANDOM_DRAWS = 10
"""Random masks whose rankings are averaged."""


def score_responses(context: StageContext) -> None:
    """Write points.json: reward and log-probabilities of each sampled response, step by step.

    Configuration: `reward` (make_reward's arguments), `batch_size`, `device`, `model`. Inputs:
    "run", "pairs", and "model" (the reference) unless it comes from outside.

    Each point has `step`, `rewards` (of prompt and response as one text; None where the reward
    model gives none), `logps` and `ref_logps` (log π(y|x) and log π_ref(y|x), nats),
    `truncated_prompts` (how many lost their beginning to fit the context), `tokens` (mean length)
    and `ended` (share of responses that came to their end).
    """
    config = context.config
    start = starting_model(context)
    tokenizer = AutoTokenizer.from_pretrained(start)
    reference: Any = AutoModelForCausalLM.from_pretrained(start).to(config["device"]).eval()
    texts = json.loads((context.inputs["pairs"] / PROMPTS).read_text(encoding="utf-8"))
    reward = reward_of(context)
    with (context.inputs["run"] / RESPONSES).open(encoding="utf-8") as stream:
        evaluations = {row["step"]: row for row in map(json.loads, stream)}
    points = []
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
                "tokens": float(np.mean([len(ids) for ids in seen["ids"]])),
                "ended": float(np.mean([tokenizer.eos_token_id in ids for ids in seen["ids"]])),
            }
        )
    write_json({"reward": reward.name, "points": points}, context.work / POINTS)


def rank_tokens(context: StageContext) -> None:
    """Write rankings.npz: how well masks and token rewards tell the tokens that decide.

    Configuration: `replicates`, `seed`. Inputs: "run" and "labels". For each `<step>/<score>`,
    where score is reward_mask, kl_mask or log_ratios (its absolute value), an array (2, 1 + R):
    AUROC and average precision, the sample's own first, then R bootstrap replicates over responses.
    """
    truth = _truth(context)
    with np.load(context.inputs["run"] / TOKENS) as tokens:
        if tokens[LENGTHS].tolist() != [len(one) for one in truth]:
            raise ValueError("the tokens that were evaluated are not those that have labels")
        scores = {name: np.abs(tokens[name]) for name in tokens.files if name != LENGTHS}
    found = {name: _ranked(context, truth, values) for name, values in scores.items()}
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def rank_baselines(context: StageContext) -> None:
    """Write rankings.npz as `rank_tokens` does, of what needs no training.

    Configuration: as there. Input: "labels". The scores are `expected`, what the reference expects,
    and `random`, the mean over uniform draws; `counts` holds the numbers of deciding tokens, of
    tokens and of responses.
    """
    truth = _truth(context)
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    expected = np.concatenate([one["expected"] for one in labels["responses"]])
    generator = np.random.default_rng(context.config["seed"])
    draws = [_ranked(context, truth, generator.random(expected.size)) for _ in range(RANDOM_DRAWS)]
    found = {
        "expected": _ranked(context, truth, expected),
        "random": np.mean(draws, axis=0),
        "counts": np.array([sum(int(one.sum()) for one in truth), expected.size, len(truth)]),
    }
    np.savez_compressed(context.work / RANKINGS, allow_pickle=False, **found)


def _truth(context: StageContext) -> list[Any]:
    """Which tokens of each response decide."""
    labels = json.loads((context.inputs["labels"] / LABELS).read_text(encoding="utf-8"))
    return [np.asarray(one["labels"], dtype=bool) for one in labels["responses"]]


def _ranked(context: StageContext, truth: list[Any], values: Any) -> Any:
    edges = np.cumsum([len(one) for one in truth])[:-1]
    config = context.config
    ranking = rank(np.split(values, edges), truth, config["replicates"], config["seed"])
    return np.stack(
        [
            np.append(ranking.auroc, ranking.auroc_replicates),
            np.append(ranking.average_precision, ranking.average_precision_replicates),
        ]
    ).astype(np.float32)
