"""The numbers of Figures 3 and 7, and how well masks find the decisive tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.domains.common.cells import Statistic
from harness.domains.common.dynamics import common_steps, dynamics_facts
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import RowSpec, percentage
from harness.domains.common.table import block_json, column_facts
from harness.domains.sentiment.experiments import DynamicsFigure
from harness.domains.sentiment.notes import dynamics_notes
from harness.domains.sentiment.pipeline import Graph, Run
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.store import Store
from harness.render.fit import fit_notes
from sparsepo.registry import method_class
from tasks.metrics.chains import ChainValues

BASELINE = "random"
_SCORES = {
    "reward_mask": "reward mask",
    "kl_mask": "KL mask",
    "log_ratios": "size of the token reward",
}
_ALONE = {"random": "Random mask", "expected": "Reference's expectation"}


_COLUMNS = (
    percentage("auroc", "AUROC (%)"),
    percentage("average_precision", "Average precision (%)"),
)


def dynamics_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return the content of figure3.json or figure7.json.

    Returns:
        `panels` of what the trainer logged for the first row, over the figure's kind of responses;
        with Figure 3 also what `_ranking_json` returns.
    """
    spec, graph, store = run.experiment, run.graph, run.store
    assert isinstance(spec, DynamicsFigure)
    drawn = run.rows[0]
    histories: dict[float, list[Any]] = {}
    for trained in graph.of(drawn.id):
        assert trained.beta is not None
        history = store.read_json(trained.trained, "training.json")["history"]
        histories.setdefault(trained.beta, []).append(history)
    result = {
        **dynamics_facts(spec, drawn, run.profile.name, histories),
        **(_ranking_json(run) if spec.ranks else {}),
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    return {**result, **fit_notes(dynamics_notes(result))}


def _ranking_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return how well masks find the decisive tokens, of chosen and rejected responses together.

    Returns:
        `rows` with AUROC and average precision (in percent) of each mask's value after training as
        a score for decisive tokens; `ranking`, the same at each evaluation.
    """
    profile, graph, store = run.profile, run.graph, run.store
    ranked = _rankings(run)
    last = max(entry["step"] for entry in ranked)
    final = [entry for entry in ranked if entry["step"] in (-1, last)]
    positives, tokens = 0, 0
    for stage in graph.baselines:
        with np.load(_file(stage, store)) as baselines:
            positives += int(baselines["counts"][0])
            tokens += int(baselines["counts"][1])
    return {
        **column_facts(_COLUMNS),
        **block_json(
            [RowSpec(entry["name"], entry["name"], entry["label"]) for entry in final],
            _COLUMNS,
            {entry["name"]: entry["cells"] for entry in final},
            profile.statistics,
            baselines=(BASELINE,),
        ),
        "baseline": BASELINE,
        "ranking": [_entry_json(entry) for entry in ranked],
        "deciding_tokens": positives,
        "tokens": tokens,
    }


def _entry_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: value for name, value in entry.items() if name != "cells"}
    return facts | {c.id: entry["cells"][c.id].as_json(c.bounds) for c in _COLUMNS}


def _rankings(run: FinishedRun[SentimentProfile, Graph]) -> list[dict[str, Any]]:
    """One entry per score, setting and evaluation; scores without a run have step -1."""
    graph = run.graph
    labels = {row.id: row.label for row in run.rows}
    found: dict[tuple[str, str, float | None, int], list[np.ndarray[Any, Any]]] = {}
    sizes = []
    for stage in graph.baselines:
        with np.load(_file(stage, run.store)) as data:
            sizes.append(int(data["counts"][2]))
            for score in _ALONE:
                found.setdefault(("", score, None, -1), []).append(data[score].astype(np.float64))
    measured = []
    for trained in graph.runs:
        if trained.rankings is not None:
            with np.load(_file(trained.rankings, run.store)) as data:
                measured.append((trained, {name: data[name] for name in data.files}))
    steps = common_steps([{_step(name) for name in data} for _, data in measured])
    for (trained, data), step_of in zip(measured, steps, strict=True):
        for name, drawn in data.items():
            key = _key(trained, name.partition("/")[2], step_of[_step(name)])
            if key is not None:
                found.setdefault(key, []).append(drawn.astype(np.float64))
    entries = []
    crossed = same_tokens(graph)
    runs = Counter((trained.row.id, trained.beta) for trained, _ in measured)
    for (row, score, beta, step), chains in found.items():
        if len(chains) < runs[row, beta]:
            continue  # A step at which not every chain was measured.
        cells = {
            column.id: ranked(chains, place, min(sizes), crossed)
            for place, column in enumerate(_COLUMNS)
        }
        label = _ALONE[score] if step < 0 else f"{labels[row]}, {_SCORES[score]}, β = {beta:g}"
        name = score if step < 0 else f"{row}/{score}/{beta:g}"
        entries.append(
            {
                "name": name,
                "label": label,
                "score": score,
                "beta": beta,
                "step": step,
                "cells": cells,
            }
        )
    order = ["random", "expected", "log_ratios", "reward_mask", "kl_mask"]
    return sorted(
        entries,
        key=lambda e: (
            e["step"],
            order.index(e["score"]),
            e["label"].split(",")[0],
            e["beta"] or 0,
        ),
    )


def ranked(
    chains: Sequence[np.ndarray[Any, Any]], place: int, items: int, crossed: bool
) -> Statistic:
    """Return AUROC (place 0) or average precision (1) of a score over chains, in percent.

    Args:
        chains: each chain's array of `rank_tokens`.
        place: which of the two.
        items: number of ranked responses.
        crossed: all chains rank the same tokens.
    """
    drawn = 100.0 * np.stack(chains).astype(np.float64)
    return Statistic(ChainValues(drawn[:, place, 0], drawn[:, place, 1:], items, crossed))


def last_ranking(run: Run, store: Store) -> np.ndarray[Any, Any]:
    """Return the array of `rank_tokens` at the end of a run.

    The score is the reward mask, or the size of the token reward for methods without masks.
    """
    score = "log_ratios" if method_class(run.row.method).needs.mask == "none" else "reward_mask"
    with np.load(_file(run.rankings, store)) as data:
        last = max(map(_step, data.files))
        found: np.ndarray[Any, Any] = data[f"{last}/{score}"]
    return found


def ranked_responses(runs: Sequence[Run], store: Store) -> int:
    """Return the number of ranked responses, of the chain that has fewest."""
    labels = [run.rankings.inputs["labels"] for run in runs if run.rankings is not None]
    return min(len(store.read_json(stage, "labels.json")["responses"]) for stage in labels)


def same_tokens(graph: Graph) -> bool:
    """Tell whether all chains rank the tokens of the same held-out pairs."""
    ranked = [run.rankings for run in graph.runs if run.rankings is not None]
    return len({stage.inputs["labels"].address for stage in ranked}) <= 1


def _key(run: Run, score: str, step: int) -> tuple[str, str, float | None, int] | None:
    """Return the kind of a score; None for scores that are not shown."""
    mask = method_class(run.row.method).needs.mask
    if score == "log_ratios":
        # Masked methods are evaluated by their masks; before training all log-ratios are 0.
        return (run.row.id, score, run.beta, step) if mask == "none" and step > 0 else None
    if mask == "none" or (score == "kl_mask" and mask != "learned-independent"):
        return None
    return (run.row.id, score, run.beta, step)


def _step(name: str) -> int:
    """Return the step of an array "step/score" of `rank_tokens`."""
    return int(name.partition("/")[0])


def _file(stage: Any, store: Store) -> Path:
    assert stage is not None
    return store.folder(stage.address) / "rankings.npz"
