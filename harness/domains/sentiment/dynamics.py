"""The numbers of Figures 3 and 7: masks during training, and whether they find what decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.domains.common.cells import Statistic, compare_with
from harness.domains.common.dynamics import panels
from harness.domains.common.spec import Experiment
from harness.domains.sentiment.notes import dynamics_notes
from harness.domains.sentiment.pipeline import Graph, Run
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.store import Store
from sparsepo.registry import available_methods
from tasks.metrics.significance import average_drawn_seeds, seed_draws

BASELINE = "random"
_SCORES = {
    "reward_mask": "reward mask",
    "kl_mask": "KL mask",
    "log_ratios": "size of the token reward",
}
_ALONE = {"random": "Random mask", "expected": "Reference's expectation"}


def dynamics_json(
    spec: Experiment,
    profile: SentimentProfile,
    graph: Graph,
    store: Store,
    labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Put Figure 3 or 7 together from its artefacts.

    Args:
        spec: what the figure is; its first method is drawn.
        profile: all values.
        graph: its stages, all of them in the store.
        store: where they are.
        labels: method → how the figure calls it.
        provenance: how the run was made.

    Returns:
        What figure3.json holds: `panels` of what the trainer logged; `rows` with AUROC and average
        precision (in percent) of each mask's value after training against "this token decides the
        preference"; `ranking`, the same at each look.
    """
    drawn = next(iter(labels))
    common = available_methods()[drawn].needs.mask != "learned-independent"
    runs: dict[float, list[Any]] = {}
    for run in graph.of(drawn):
        assert run.beta is not None
        history = store.read_json(run.trained, "training.json")["history"]
        runs.setdefault(run.beta, []).append(history)
    ranked = _rankings(graph, store, labels, profile)
    last = max(entry["step"] for entry in ranked)
    final = [entry for entry in ranked if entry["step"] in (-1, last)]
    columns = ["auroc", "average_precision"]
    cells = {entry["name"]: {c: entry[c] for c in columns} for entry in final}
    with np.load(_file(graph.baselines, store)) as baselines:
        positives, tokens, _ = baselines["counts"].tolist()
    result = {
        "id": spec.id,
        "title": spec.title,
        "heading": f"{labels[drawn]}, Figure {spec.id.removeprefix('figure')}, "
        f"{profile.name} profile: masks and token KL during training",
        "profile": profile.name,
        "panels": panels(runs, common),
        "columns": columns,
        "column_labels": {"auroc": "AUROC (%)", "average_precision": "Average precision (%)"},
        "rows": [
            {
                "method": entry["name"],
                "label": entry["label"],
                "values": {c: entry[c].as_json() for c in columns},
                "paper": None,
            }
            for entry in final
        ],
        "baseline": BASELINE,
        "significance": compare_with(cells, BASELINE, columns, profile.statistics),
        "ranking": [{**entry, **{c: entry[c].as_json() for c in columns}} for entry in ranked],
        "deciding_tokens": positives,
        "tokens": tokens,
        "provenance": {**provenance, "data": store.read_json(graph.pairs, "report.json")},
    }
    return {**result, "notes": dynamics_notes(result)}


def _rankings(
    graph: Graph, store: Store, labels: Mapping[str, str], profile: SentimentProfile
) -> list[dict[str, Any]]:
    """One entry per score, setting and look; scores that stand alone have step -1."""
    found: dict[tuple[str, str, float | None, int], list[np.ndarray[Any, Any]]] = {}
    with np.load(_file(graph.baselines, store)) as data:
        n = int(data["counts"][2])
        for score in _ALONE:
            found["", score, None, -1] = [data[score].astype(np.float64)]
    for run in graph.runs:
        if run.rankings is None:
            continue
        with np.load(_file(run.rankings, store)) as data:
            for name in data.files:
                step, _, score = name.partition("/")
                key = _key(run, score, int(step))
                if key is not None:
                    found.setdefault(key, []).append(data[name].astype(np.float64))
    settings = profile.statistics
    entries = []
    for (method, score, beta, step), seeds in found.items():
        draws = seed_draws(len(seeds), settings.replicates, settings.seed)
        values = {
            name: Statistic(
                100.0 * float(np.mean([one[place, 0] for one in seeds])),
                100.0
                * average_drawn_seeds(np.stack([one[place, 1:] for one in seeds], axis=1), draws),
                n,
                len(seeds),
            )
            for place, name in enumerate(("auroc", "average_precision"))
        }
        label = _ALONE[score] if step < 0 else f"{labels[method]}, {_SCORES[score]}, β = {beta:g}"
        name = score if step < 0 else f"{method}/{score}/{beta:g}"
        entries.append(
            {"name": name, "label": label, "score": score, "beta": beta, "step": step, **values}
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


def _key(run: Run, score: str, step: int) -> tuple[str, str, float | None, int] | None:
    """What a score is an instance of; None for scores that are not shown."""
    mask = available_methods()[run.method].needs.mask
    if score == "log_ratios":
        # Masked methods are judged by their masks; before training all log-ratios are 0.
        return (run.method, score, run.beta, step) if mask == "none" and step > 0 else None
    if mask == "none" or (score == "kl_mask" and mask != "learned-independent"):
        return None
    return (run.method, score, run.beta, step)


def _file(stage: Any, store: Store) -> Path:
    assert stage is not None
    return store.folder(stage.address) / "rankings.npz"
