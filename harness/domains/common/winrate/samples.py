"""Samples of a table of win rates: every row's responses with the judge's verdicts on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from harness.config.profiles import Profile
from harness.domains.common.finished import FinishedRun
from harness.domains.common.sample_maps import map_stage, read_maps
from harness.domains.common.samples import Response, Sample, SampleSet
from harness.domains.common.winrate.stages import ChainVerdicts, WinrateGraph
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.data.jsonl import read_jsonl
from tasks.metrics.preference import SCORES, combine

ProfileT = TypeVar("ProfileT", bound=Profile)


def winrate_samples(run: FinishedRun[ProfileT, WinrateGraph]) -> SampleSet:
    """Return the responses to held-out prompts, with a score for each opponent.

    Args:
        run: an experiment whose verdicts are in the store.
    """
    chains = run.graph.chains
    opponents = list(chains[0].against)
    return SampleSet(
        rows={row.id: row.label for row in run.rows},
        scores={name: f"win against {name}" for name in opponents},
        sources=[
            stage
            for chain in chains
            for stage in (
                chain.answers.pairs,
                *chain.answers.responses.values(),
                *(stage for rows in chain.against.values() for stage in rows.values()),
            )
        ]
        + winrate_map_stages(run.graph),
        read=lambda: (sample for chain in chains for sample in _samples(run.store, chain)),
    )


def winrate_map_stages(graph: WinrateGraph) -> list[Stage]:
    """Return the stages of the token maps of the first chain's responses."""
    stages = map(map_stage, graph.chains[0].answers.responses.values())
    return [stage for stage in stages if stage is not None]


def _samples(store: Store, chain: ChainVerdicts) -> Iterator[Sample]:
    verdicts = {
        opponent: {
            row: {line["pair_id"]: _score(line) for line in _read(store, stage, "verdicts.jsonl")}
            for row, stage in rows.items()
        }
        for opponent, rows in chain.against.items()
    }
    responses = {
        row: {line["pair_id"]: line["response"] for line in _read(store, stage, "responses.jsonl")}
        for row, stage in chain.answers.responses.items()
    }
    maps = {row: read_maps(store, stage) for row, stage in chain.answers.responses.items()}
    for pair in _read(store, chain.answers.pairs, "test.jsonl"):
        id = pair["pair_id"]
        own = [
            Response(
                row,
                texts[id],
                {name: rows[row].get(id) for name, rows in verdicts.items() if row in rows},
                tokens=maps[row].get(id),
            )
            for row, texts in responses.items()
            if id in texts
        ]
        if own:
            yield Sample(id, chain.answers.seed, "", pair["prompt"], own, pair_texts(pair))


def pair_texts(pair: Mapping[str, Any]) -> dict[str, str]:
    """Return the chosen and the rejected response of a pair's line in test.jsonl, as text."""
    return {
        side: pair[side] if isinstance(pair[side], str) else str(pair[side][-1]["content"])
        for side in ("chosen", "rejected")
    }


def _score(line: Mapping[str, Any]) -> float | str:
    """Return 1 for a win, ½ for a tie, 0 for a loss, in both orders together; or "failed"."""
    result = combine(line["forward"], line["backward"])
    return result if result == "failed" else SCORES[result]


def _read(store: Store, stage: Stage, name: str) -> Iterator[dict[str, Any]]:
    return read_jsonl(store.folder(stage.address) / name)
