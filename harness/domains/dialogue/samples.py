"""Samples of Table 1: every row's responses to held-out prompts, and how they were judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from harness.config.profiles import Profile
from harness.domains.common.finished import FinishedRun
from harness.domains.common.sample_maps import map_stage, read_maps
from harness.domains.common.samples import Response, Sample, SampleSet
from harness.domains.common.winrate.samples import pair_texts
from harness.domains.dialogue.pipeline import Graph, System
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.data.jsonl import read_jsonl

ProfileT = TypeVar("ProfileT", bound=Profile)

SCORES = {"win": "win against chosen", "margin": "implicit reward, chosen − rejected"}


def dialogue_samples(run: FinishedRun[ProfileT, Graph]) -> SampleSet | None:
    """Return the responses that the win rate was computed from; None where there is no win rate.

    Args:
        run: an experiment whose stages are in the store.
    """
    graph, store = run.graph, run.store
    chains = [
        (pairs, {row: systems[place] for row, systems in graph.systems.items()})
        for place, pairs in enumerate(graph.pairs)
    ]
    judged = [
        system.judged
        for _, systems in chains
        for system in systems.values()
        if system.judged is not None
    ]
    if not judged:
        return None
    return SampleSet(
        rows={row.id: row.label for row in run.rows if graph.systems[row.id][0].judged},
        scores=SCORES,
        sources=[*graph.pairs, *judged, *dialogue_map_stages(graph)],
        read=lambda: (sample for chain in chains for sample in _samples(store, *chain)),
    )


def dialogue_map_stages(graph: Graph) -> list[Stage]:
    """Return the stages of the token maps of the first chain's responses."""
    judged = [systems[0].judged for systems in graph.systems.values()]
    stages = [map_stage(stage.inputs["responses"]) for stage in judged if stage is not None]
    return [stage for stage in stages if stage is not None]


def _samples(store: Store, pairs: Stage, systems: dict[str, System]) -> Iterator[Sample]:
    found = {row: _responses(store, row, system) for row, system in systems.items()}
    seed = next(iter(systems.values())).seed
    for pair in read_jsonl(store.folder(pairs.address) / "test.jsonl"):
        id = pair["pair_id"]
        own = [responses[id] for responses in found.values() if id in responses]
        if own:
            yield Sample(id, seed, "", pair["prompt"], own, pair_texts(pair))


def _responses(store: Store, row: str, system: System) -> dict[str, Response]:
    """Return a model's responses by the pair's id."""
    if system.judged is None or system.model is None:
        return {}
    judged = store.read_json(system.judged, "judged.json")
    wins = dict(zip(judged["pair_ids"], judged["scores"], strict=True))
    margins = {
        score["pair_id"]: score["chosen_reward"] - score["rejected_reward"]
        for score in store.read_json(system.model, "scores.json")
    }
    responses = system.judged.inputs["responses"]
    maps = read_maps(store, responses)
    folder = store.folder(responses.address)
    return {
        line["pair_id"]: Response(
            row,
            line["response"],
            {"win": wins[line["pair_id"]], "margin": margins.get(line["pair_id"])},
            tokens=maps.get(line["pair_id"]),
        )
        for line in read_jsonl(folder / "responses.jsonl")
    }
