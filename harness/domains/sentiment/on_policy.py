"""On-policy training: reward, KL and diversity, against the start and against DPO's frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import (
    Cells,
    Statistic,
    compare_with_zero,
    interval,
    means_of_chains,
)
from harness.domains.common.finished import FinishedRun
from harness.domains.common.generation import sampled_json
from harness.domains.common.spec import RowSpec
from harness.domains.common.table import block_json, column_facts
from harness.domains.sentiment.experiments import OnPolicyRow, OnPolicyTable
from harness.domains.sentiment.frontier import costs_and_gains, frontier_of
from harness.domains.sentiment.notes import on_policy_notes
from harness.domains.sentiment.pipeline import Graph
from harness.domains.sentiment.points import Point, read_scored
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.store import Store
from harness.render.fit import fit_notes
from sparsepo.errors import UserError
from sparsepo.registry import get_method
from tasks.metrics.chains import ChainValues
from tasks.metrics.frontier import frontier_gain


def on_policy_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return the content of on-policy.json.

    Returns:
        The table; `frontiers`, of each method that is trained on given pairs, over β and training
        steps; `end`, every row's policy after training; `over_frontier`, the test of each on-policy
        row's reward against DPO's frontier at the same KL; `diversity`, the test of the order of
        diversity that f-DPG's article reports.

    Raises:
        UserError: the reward model or the diversity has no value for any prompt throughout.
    """
    spec, profile, graph, store = run.experiment, run.profile, run.graph, run.store
    assert isinstance(spec, OnPolicyTable)
    settings = profile.statistics
    scored = read_scored(graph, store)
    points = {row.id: scored.points(graph.of(row.id), settings) for row in run.rows}
    ends = {row.id: scored.last_point(graph.of(row.id), settings) for row in run.rows}
    self_bleu, missing = _self_bleu(graph, store, settings, scored.crossed)
    offline = _offline(run.rows, points)
    gains = {}
    if "dpo" in offline:
        frontier = offline["dpo"][1]
        gains = {
            row.id: over_frontier(ends[row.id], frontier)
            for row in run.rows
            if isinstance(row, OnPolicyRow)
        }
    cells: Cells = {
        row.id: {
            "reward": Statistic(ends[row.id].reward),
            "kl": Statistic(ends[row.id].kl),
            **({"over_frontier": Statistic(gains[row.id])} if row.id in gains else {}),
            "self_bleu": Statistic(self_bleu[row.id]),
        }
        for row in run.rows
    }
    columns = [column for column in spec.columns if column.id != "over_frontier" or gains]
    baselines = (spec.baseline, spec.reference)
    diversity_stages = [one.diversity for one in graph.runs if one.diversity is not None]
    facts = scored.facts
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        **column_facts(columns),
        **block_json(run.rows, columns, cells, settings, baselines=baselines),
        "baseline": spec.baseline,
        "reference": spec.reference,
        "frontiers": [frontier_of(*one) for one in offline.values()],
        "end": [
            {
                "id": row.id,
                "method": row.method,
                "label": row.label,
                "on_policy": isinstance(row, OnPolicyRow),
                **ends[row.id].as_json(),
                "self_bleu": interval(self_bleu[row.id]),
            }
            for row in run.rows
        ],
        "hyper_parameters": _hyper_parameters(graph),
        "over_frontier": compare_with_zero(gains, settings),
        "diversity": _ordered(spec, self_bleu, settings),
        "missing_self_bleu": missing,
        **facts,
        "sampled": {
            **facts["sampled"],
            "prompts of self-BLEU": sampled_json(store, diversity_stages),
        },
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    return {**result, **fit_notes(on_policy_notes(result))}


def over_frontier(end: Point, frontier: Sequence[Point]) -> ChainValues:
    """Return how far a policy's reward is above a frontier at the policy's own KL, chain by chain.

    Args:
        end: the policy.
        frontier: the points of another method, its start included.
    """
    (costs, drawn_costs), (gains, drawn_gains) = costs_and_gains(frontier)
    # An estimate of the KL may be below 0, where the frontier begins.
    reached = frontier_gain(costs, gains, np.maximum(end.kl.values, 0.0))
    drawn = frontier_gain(drawn_costs, drawn_gains, np.maximum(end.kl.replicates, 0.0))
    reward = end.reward
    return ChainValues(
        reward.values - reached, reward.replicates - drawn, reward.items, reward.crossed
    )


def _offline(
    rows: Sequence[RowSpec], points: Mapping[str, Sequence[Point]]
) -> dict[str, tuple[RowSpec, list[Point]]]:
    """Return each method that is trained on given pairs with its points at every β."""
    found: dict[str, tuple[RowSpec, list[Point]]] = {}
    for row in rows:
        if isinstance(row, OnPolicyRow) or row.method == "sft":
            continue
        label = row.label.partition(", β")[0]
        _, own = found.setdefault(row.method, (RowSpec(row.method, row.method, label), []))
        own += points[row.id]
    return found


def _self_bleu(
    graph: Graph, store: Store, settings: StatisticsSettings, crossed: bool
) -> tuple[dict[str, ChainValues], int]:
    """Return self-BLEU of each row in every chain, and how many prompts have none in some row."""
    read: dict[int, dict[str, list[float | None]]] = {}
    for run in graph.runs:
        assert run.diversity is not None
        values = store.read_json(run.diversity, "diversity.json")["self_bleu"]
        read.setdefault(run.seed, {})[run.row.id] = values
    kept = {seed: complete(list(rows.values())) for seed, rows in read.items()}
    if crossed:
        common = set.intersection(*map(set, kept.values()))
        kept = {seed: [place for place in own if place in common] for seed, own in kept.items()}
    if not all(kept.values()):
        raise UserError(
            "Every held-out prompt has samples without text in some row, so that self-BLEU has no "
            "value; raise on_policy.diversity_prompts or on_policy.diversity_samples."
        )
    missing = sum(len(next(iter(rows.values()))) - len(kept[seed]) for seed, rows in read.items())
    found = {
        row: means_of_chains(
            [np.array(own[row], dtype=np.float64)[kept[seed]] for seed, own in read.items()],
            settings,
            crossed,
        )
        for row in next(iter(read.values()))
    }
    return found, missing


def complete(rows: Sequence[Sequence[float | None]]) -> list[int]:
    """Return the places at which every row has a value."""
    return [place for place, values in enumerate(zip(*rows, strict=True)) if None not in values]


def _hyper_parameters(graph: Graph) -> dict[str, dict[str, Any]]:
    """Return all hyper-parameters of each on-policy row, and how its policy is sampled."""
    found = {}
    for run in graph.runs:
        if isinstance(run.row, OnPolicyRow):
            config = run.trained.config
            method = get_method(config["method"], **config["hyper_parameters"])
            found[run.row.id] = {**asdict(method), **config["rollout"]}
    return found


def _ordered(
    spec: OnPolicyTable, self_bleu: Mapping[str, ChainValues], settings: StatisticsSettings
) -> list[dict[str, Any]]:
    """Test the order of diversity: less diverse minus more diverse, which should be positive."""
    shown = [pair for pair in spec.ordered if all(row in self_bleu for row in pair)]
    differences = {f"{more}/{less}": self_bleu[less].minus(self_bleu[more]) for more, less in shown}
    tested = compare_with_zero(differences, settings)
    return [
        {"more_diverse": more, "less_diverse": less, **tested[f"{more}/{less}"]}
        for more, less in shown
    ]
