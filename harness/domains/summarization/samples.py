"""Samples of Figure 5: a summary of every row for each post and temperature, and its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import Response, Sample, SampleSet
from harness.domains.summarization.pipeline import Graph, System
from harness.domains.summarization.profile import SummarizationProfile
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.data.jsonl import read_jsonl

METRICS = {"rougeL": "ROUGE-L (%)", "bertscore": "BERTScore (%)", "summac": "SummaC (%)"}
TRUTH = {"coverage": "coverage (%)", "faithfulness": "faithfulness (%)"}


def summarization_samples(run: FinishedRun[SummarizationProfile, Graph]) -> SampleSet:
    """Return the first summary that each row's model wrote of each post at each temperature.

    Args:
        run: an experiment whose stages are in the store.
    """
    graph, store = run.graph, run.store
    chains = [
        (prompts, {row: systems[place] for row, systems in graph.systems.items()})
        for place, prompts in enumerate(graph.prompts)
    ]
    return SampleSet(
        rows={row.id: row.label for row in run.rows},
        scores={**METRICS, **TRUTH},
        sources=[
            *graph.prompts,
            *(system.scores for _, systems in chains for system in systems.values()),
        ],
        read=lambda: (sample for chain in chains for sample in _samples(store, *chain)),
    )


def _samples(store: Store, prompts: Stage, systems: Mapping[str, System]) -> Iterator[Sample]:
    found = {row: _responses(store, row, system) for row, system in systems.items()}
    seed = next(iter(systems.values())).seed
    places = list(dict.fromkeys(place for responses in found.values() for place in responses))
    posts = {row["prompt_id"]: row for row in _read(store, prompts, "prompts.jsonl")}
    for temperature, id in places:
        post = posts[id]
        own = [
            responses[temperature, id]
            for responses in found.values()
            if (temperature, id) in responses
        ]
        group = f"temperature {temperature}"
        yield Sample(id, seed, group, post["prompt"], own, {"reference": post["reference"]})


def _responses(store: Store, row: str, system: System) -> dict[tuple[str, str], Response]:
    """Return the first summary and its scores, by temperature and post."""
    scored = store.read_json(system.scores, "scores.json")
    values = {
        name: scored["metrics"][name]["values"] for name in METRICS if name in scored["metrics"]
    }
    values |= {name: scored["truth"][name] for name in TRUTH if scored["truth"]}
    order = {id: place for place, id in enumerate(scored["prompt_ids"])}
    found = {}
    for line in _read(store, system.samples, "samples.jsonl"):
        temperature, id = f"{line['temperature']:g}", line["prompt_id"]
        scores = {name: _percent(own[temperature][order[id]]) for name, own in values.items()}
        found[temperature, id] = Response(row, line["summaries"][0], scores)
    return found


def _percent(values: Any) -> float | None:
    """Return the first of a post's values in percent, whether there is one or one per sample."""
    first = values[0] if isinstance(values, list) else values
    return None if first is None else 100.0 * float(first)


def _read(store: Store, stage: Stage, name: str) -> Iterator[dict[str, Any]]:
    return read_jsonl(store.folder(stage.address) / name)
