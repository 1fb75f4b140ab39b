"""Samples of the sentiment experiments: responses at the end of training, and token maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import Response, Sample, SampleSet
from harness.domains.sentiment.experiments import OnPolicyTable, TokenMapFigure
from harness.domains.sentiment.pipeline import Graph, Run
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.store import Store
from sparsepo.data.jsonl import read_jsonl

SCORES = {"reward": "reward (%)", "log_ratio": "log π(y|x) − log π_ref(y|x), nats"}

Decode = Callable[[list[int]], str]


def sentiment_samples(run: FinishedRun[SentimentProfile, Graph]) -> SampleSet | None:
    """Return what the models wrote, or the maps of a text; None where neither is known.

    Args:
        run: an experiment whose stages are in the store.
    """
    graph, store = run.graph, run.store
    rows = {row.id: row.label for row in run.rows}
    experiment = run.experiment
    if isinstance(experiment, TokenMapFigure) and graph.maps is not None:
        maps, seed = graph.maps, graph.runs[0].seed
        return SampleSet(
            rows,
            {"reward": "implicit reward"},
            [maps],
            lambda: _of_maps(store.read_json(maps, "maps.json"), list(rows), seed),
        )
    scored = [one for one in graph.runs if one.points is not None]
    if not scored:
        return None
    return SampleSet(
        rows,
        SCORES,
        [*graph.pairs, *(one.points for one in scored if one.points is not None)],
        lambda: _of_runs(store, graph, scored, isinstance(experiment, OnPolicyTable)),
    )


def _of_maps(found: Mapping[str, Any], rows: Sequence[str], seed: int) -> Iterator[Sample]:
    """Yield the chosen and the rejected response of a pair as the models see them."""
    models = found["models"]
    for side in ("chosen", "rejected"):
        pairs = [
            next(p for p in model["pairs"] if p["pair_id"] == found["pair_id"]) for model in models
        ]
        own = [
            Response(row, pair[side]["text"], {"reward": pair[side]["reward"]}, tokens=pair[side])
            for row, pair in zip(rows, pairs, strict=True)
        ]
        yield Sample(found["pair_id"], seed, f"{side} response", pairs[0]["prompt"], own)


def _of_runs(store: Store, graph: Graph, runs: Sequence[Run], together: bool) -> Iterator[Sample]:
    """Yield the responses at the end of training, β by β; SFT, which has none, is at each β.

    Args:
        store: the artefacts.
        graph: the experiment's.
        runs: those with responses.
        together: show the rows of all β side by side.
    """
    decode = _Decoder(store)
    for pairs in graph.pairs:
        prompts = store.read_json(pairs, "prompts.json")
        chain = [run for run in runs if _pairs_of(run) == pairs.address]
        if not chain:
            continue
        places: list[tuple[float | None, float]] = list(
            dict.fromkeys((run.beta, run.flipped) for run in chain if run.beta is not None)
        )
        responses = {
            id(run): _responses(store, run, decoder, len(prompts))
            for run in chain
            if (decoder := decode(run, chain)) is not None
        }
        for beta, flipped in (not together and places) or [(None, 0.0)]:
            own = [
                run
                for run in chain
                if id(run) in responses
                and (together or run.beta is None or (run.beta == beta and run.flipped == flipped))
            ]
            group = "" if beta is None else f"β {beta:g}"
            group += f", {100 * flipped:g} % flipped" if flipped else ""
            for place, prompt in enumerate(prompts):
                yield Sample(
                    f"prompt {place}",
                    chain[0].seed,
                    group,
                    prompt,
                    [responses[id(run)][place] for run in own],
                )


def _pairs_of(run: Run) -> str:
    """Return the address of the pairs whose prompts a run's responses answer."""
    assert run.points is not None
    return run.points.inputs["pairs"].address


def _responses(store: Store, run: Run, decode: Decode, prompts: int) -> list[Response]:
    assert run.points is not None
    lines = read_jsonl(store.folder(run.trained.address) / "responses.jsonl")
    last = max(lines, key=lambda line: line["step"])
    points = store.read_json(run.points, "points.json")["points"]
    point = next(one for one in points if one["step"] == last["step"])
    variant = "" if run.gamma is None else f"γ {run.gamma:g}"
    return [
        Response(
            run.row.id,
            decode(last["ids"][place]),
            {
                "reward": _times_100(point["rewards"][place]),
                "log_ratio": point["logps"][place] - point["ref_logps"][place],
            },
            variant,
        )
        for place in range(prompts)
    ]


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100.0 * value


class _Decoder:
    """Turns token ids into text, with the tokenizer that a chain's models were saved with."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Any] = {}

    def __call__(self, run: Run, chain: Sequence[Run]) -> Decode | None:
        """Return the function that decodes a run's responses; None if no tokenizer is known."""
        from tokenizers import Tokenizer

        # SFT is the start itself, whose tokenizer every other run of the chain has saved.
        for other in (run, *chain):
            file = self._store.folder(other.trained.address) / "model" / "tokenizer.json"
            if file.is_file():
                text = file.read_text(encoding="utf-8")
                known = self._known.get(text) or Tokenizer.from_str(text)
                self._known[text] = known
                return lambda ids: str(known.decode(ids, skip_special_tokens=True))
        return None
