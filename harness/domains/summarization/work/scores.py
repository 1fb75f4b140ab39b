"""The stage that scores summaries by every metric and, of the world's posts, by the truth."""

from __future__ import annotations

import shutil
from typing import Any, cast

import torch

from harness.domains.common.work.files import MODEL, read_pairs_file, write_json
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl
from tasks.metrics.text import (
    CandidateMetric,
    GroupMetric,
    TextMetricSettings,
    make_metric,
)
from tasks.metrics.text.base import text_of_signature
from tasks.summarization import truth

CACHE = "cache"


def score_summaries(context: StageContext) -> None:
    """Write scores.json, whose values are by temperature, such as "0.25".

    Configuration: `metrics` (names), `encoder` and `nli` (a hub id, or None for the input or the
    folder of that name), `settings` (`encoder_layers`, `idf`, `summac`, `language`), `device`.
    File: "conv_weights" of SummaC-Conv, unless the published ones are to be downloaded.

    `metrics` has each metric's `label`, `signature`, `takes`, `missing` (reason → how many) and
    `values`: temperature → post → one value of each sample, or one of all of them, or null.
    `truth` has the same of the world's coverage, faithfulness and preference; else it is null.
    """
    torch.set_num_threads(context.threads)
    prompts = {
        row["prompt_id"]: row for row in read_jsonl(context.inputs["prompts"] / "prompts.jsonl")
    }
    groups: dict[str, dict[str, list[str]]] = {}
    for row in read_jsonl(context.inputs["samples"] / "samples.jsonl"):
        groups.setdefault(f"{row['temperature']:g}", {})[row["prompt_id"]] = row["summaries"]
    settings = _settings(context)
    names: list[str] = context.config["metrics"]
    metrics: dict[str, Any] = {}
    for place, name in enumerate(names):
        context.progress(place, len(names), "metrics")
        metrics[name] = _score(make_metric(name, settings), groups, prompts)
    known = all(truth.is_known(row["prompt"]) for row in prompts.values())
    write_json(
        {
            "prompt_ids": list(prompts),
            "metrics": metrics,
            "truth": _truth(groups, prompts) if known else None,
        },
        context.work / "scores.json",
    )
    shutil.rmtree(context.work / CACHE, ignore_errors=True)


def _settings(context: StageContext) -> TextMetricSettings:
    config = context.config
    values = config["settings"]
    idf = None
    if values["idf"]:
        pairs = read_pairs_file(context.inputs["pairs"] / "train.jsonl")
        idf = [str(cast(Any, pair.chosen)[-1]["content"]) for pair in pairs]
    nli = config["nli"] or context.files.get("nli")
    if nli is None and "nli" in context.inputs:
        nli = context.inputs["nli"] / MODEL
    return TextMetricSettings(
        encoder=str(config["encoder"] or context.files["encoder"]),
        encoder_layers=values["encoder_layers"],
        idf_texts=idf,
        nli=None if nli is None else str(nli),
        summac=values["summac"],
        conv_weights=context.files.get("conv_weights"),
        language=values["language"],
        device=config["device"],
        # A run that was killed finds what it has scored already.
        cache=context.work / CACHE,
    )


def _score(
    metric: CandidateMetric | GroupMetric,
    groups: dict[str, dict[str, list[str]]],
    prompts: dict[str, Any],
) -> dict[str, Any]:
    """Score all temperatures in one call, which encodes each reference once."""
    flat = [
        (temperature, prompt, summaries)
        for temperature, own in groups.items()
        for prompt, summaries in own.items()
    ]
    others = [prompts[prompt] for _, prompt, _ in flat]
    sizes = [len(summaries) for _, _, summaries in flat]
    single = metric.takes == "candidates"
    repeat = sizes if single else [1] * len(flat)
    texts: dict[str, Any] = {}
    if metric.needs is not None:
        column = {"references": "reference", "documents": "document"}[metric.needs]
        texts[metric.needs] = [
            row[column] for row, count in zip(others, repeat, strict=True) for _ in range(count)
        ]
    if single:
        candidates = [summary for _, _, summaries in flat for summary in summaries]
        found = cast(CandidateMetric, metric).score(candidates, **texts)
    else:
        found = cast(GroupMetric, metric).score([summaries for _, _, summaries in flat], **texts)
    values: dict[str, list[Any]] = {}
    start = 0
    for (temperature, _, _), count in zip(flat, repeat, strict=True):
        own = found.values[start : start + count]
        values.setdefault(temperature, []).append(own if single else own[0])
        start += count
    return {
        "label": metric.label,
        "signature": text_of_signature(metric.signature()),
        "takes": metric.takes,
        "missing": found.missing,
        "notes": found.notes,
        "values": values,
    }


def _truth(groups: dict[str, dict[str, list[str]]], prompts: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"coverage": {}, "faithfulness": {}, "preference": {}}
    for temperature, own in groups.items():
        assessed = [
            [truth.assess(prompts[prompt]["prompt"], text) for text in summaries]
            for prompt, summaries in own.items()
        ]
        for name, by_temperature in values.items():
            by_temperature[temperature] = [
                [getattr(one, name) for one in samples] for samples in assessed
            ]
    return values
