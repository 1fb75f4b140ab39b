"""Figure 2's numbers: points with intervals, frontiers, and what can be said of them.

A frontier is made in each chain by itself, so that its gain and its volume have one value per
chain; the picture's points and frontier are means over chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import (
    DIGITS,
    Statistic,
    are_crossed,
    draw_seed,
    interval,
)
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import RowSpec, percentage
from harness.domains.common.table import block_json, column_facts
from harness.domains.common.tuning import tuning_json
from harness.domains.sentiment.notes import frontier_notes
from harness.domains.sentiment.pipeline import Graph, Run
from harness.domains.sentiment.profile import SentimentProfile
from sparsepo.errors import UserError
from tasks.metrics.chains import ChainValues, compare_with
from tasks.metrics.frontier import frontier_gain, hypervolume, pareto_frontier
from tasks.metrics.significance import FloatArray, bootstrap_mean, holm


@dataclass(frozen=True)
class Point:
    """One policy of one row in every chain: reward (in percent) and KL (nats per response)."""

    beta: float | None
    gamma: float | None
    step: int
    reward: ChainValues
    kl: ChainValues
    tokens: float
    ended: float

    def as_json(self) -> dict[str, Any]:
        """Return the point as figure2.json holds it."""
        return {
            "beta": self.beta,
            "gamma": self.gamma,
            "step": self.step,
            "reward": interval(self.reward),
            "kl": interval(self.kl),
            "n": self.reward.items,
            "seeds": self.reward.chains,
            "response_tokens": round(self.tokens, 2),
            "ended": round(self.ended, 4),
        }


def frontier_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return what figure2.json holds; equal artefacts give equal values.

    Rewards are in percent, KL in nats per response.

    Raises:
        UserError: if the reward model scores no prompt's responses throughout.
    """
    spec, profile, graph, store = run.table, run.profile, run.graph, run.store
    read: dict[int, Any] = {}
    for trained in graph.runs:
        assert trained.points is not None
        read[id(trained)] = store.read_json(trained.points, "points.json")
    crossed = _same_prompts(graph)
    kept, missing = _scored_prompts([(one.seed, read[id(one)]) for one in graph.runs], crossed)
    points = {
        row.id: _points(graph.of(row.id), read, kept, crossed, profile.statistics)
        for row in run.rows
    }
    cells = {
        row: _cells(found, profile, spec.reference if spec.reference in points else None, points)
        for row, found in points.items()
    }
    columns = (
        *(
            percentage(f"reward_{kl:g}", f"Reward at {kl:g} nats")
            for kl in profile.evaluation.kl_budgets
        ),
        *spec.columns,
    )
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        **column_facts(columns),
        **block_json(run.rows, columns, cells, profile.statistics, baselines=(spec.baseline,)),
        "baseline": spec.baseline,
        "kl_limit": profile.evaluation.kl_limit,
        "methods": [_frontier_of(row, points[row.id]) for row in run.rows],
        "above_start": {
            row: _above_start(found, profile.statistics) for row, found in points.items()
        },
        **tuning_json(profile, graph.searches, store),
        "reward_model": next(iter(read.values()))["reward"],
        "missing_rewards": missing,
        "truncated_prompts": max(
            point["truncated_prompts"] for one in read.values() for point in one["points"]
        ),
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    return {**result, "notes": frontier_notes(result)}


def _same_prompts(graph: Graph) -> bool:
    """Tell whether all chains are scored on the same held-out prompts."""
    pairs: dict[str, list[str]] = {}
    for run in graph.runs:
        assert run.points is not None
        place = f"{run.row.id} {run.beta} {run.gamma}"
        pairs.setdefault(place, []).append(run.points.inputs["pairs"].address)
    return are_crossed(pairs, "held-out prompts")


def _scored_prompts(
    runs: Sequence[tuple[int, Mapping[str, Any]]], crossed: bool
) -> tuple[dict[int, list[int]], int]:
    """The prompts whose responses all have a reward, chain by chain, and how many have none.

    Args:
        runs: (seed of its chain, points.json) of every run.
        crossed: all chains have the same prompts, and keep the same ones.
    """
    found: dict[int, list[Sequence[float | None]]] = {}
    for seed, run in runs:
        found.setdefault(seed, []).extend(point["rewards"] for point in run["points"])
    missing = sum(score is None for chain in found.values() for one in chain for score in one)
    kept = {
        seed: [
            index
            for index in range(len(chain[0]))
            if all(scores[index] is not None for scores in chain)
        ]
        for seed, chain in found.items()
    }
    if crossed:
        # One set of prompts has one set of draws, whatever has lost its reward where.
        common = [i for i in next(iter(kept.values())) if all(i in own for own in kept.values())]
        kept = dict.fromkeys(kept, common)
    if not all(kept.values()):
        raise UserError(
            "The reward model gives every prompt some response without a finite reward; use "
            "another one (model.reward)."
        )
    return kept, missing


def _points(
    runs: Sequence[Run],
    read: Mapping[int, Mapping[str, Any]],
    kept: Mapping[int, Sequence[int]],
    crossed: bool,
    settings: StatisticsSettings,
) -> list[Point]:
    """A row's points: one per β, γ and step, over all chains."""
    found: dict[tuple[float | None, float | None, int], list[tuple[int, Mapping[str, Any]]]] = {}
    for run in runs:
        for point in read[id(run)]["points"]:
            found.setdefault((run.beta, run.gamma, point["step"]), []).append((run.seed, point))

    def over_chains(values: Sequence[FloatArray]) -> ChainValues:
        # The same seed draws the same prompts for reward and KL, and for every point.
        drawn = [
            bootstrap_mean(own, settings.replicates, draw_seed(settings, chain, crossed))
            for chain, own in enumerate(values)
        ]
        means = np.array([own.mean() for own in values])
        return ChainValues(means, np.stack(drawn), min(own.size for own in values), crossed)

    points = []
    for (beta, gamma, step), chains in found.items():
        rewards, kls = [], []
        for seed, one in chains:
            place = list(kept[seed])
            rewards.append(100.0 * np.array(one["rewards"], dtype=np.float64)[place])
            kls.append((np.array(one["logps"]) - np.array(one["ref_logps"]))[place])
        points.append(
            Point(
                beta,
                gamma,
                step,
                over_chains(rewards),
                over_chains(kls),
                float(np.mean([one["tokens"] for _, one in chains])),
                float(np.mean([one["ended"] for _, one in chains])),
            )
        )
    return points


def _cells(
    found: Sequence[Point],
    profile: SentimentProfile,
    reference: str | None,
    points: Mapping[str, Sequence[Point]],
) -> dict[str, Statistic]:
    """Reward at each KL budget, and the hypervolume above the start's reward, in every chain."""
    # (…, points), so that one call treats all chains, another all of their replicates.
    costs, drawn_costs = (np.stack(part, axis=-1) for part in _parts([p.kl for p in found]))
    gains, drawn_gains = (np.stack(part, axis=-1) for part in _parts([p.reward for p in found]))
    # The start's own estimated KL may lie beside 0 by rounding; its cost is 0 by definition.
    start = np.array([p.step == 0 for p in found])
    costs, drawn_costs = np.where(start, 0.0, costs), np.where(start, 0.0, drawn_costs)
    floor = next((p for p in points[reference]), None) if reference else None
    floor = floor or next(p for p in found if p.step == 0)
    limit = profile.evaluation.kl_limit
    shape = found[0].reward

    def cell(values: FloatArray, drawn: FloatArray) -> Statistic:
        return Statistic(ChainValues(values, drawn, shape.items, shape.crossed))

    cells = {
        f"reward_{budget:g}": cell(
            frontier_gain(costs, gains, budget), frontier_gain(drawn_costs, drawn_gains, budget)
        )
        for budget in profile.evaluation.kl_budgets
    }
    cells["hypervolume"] = cell(
        hypervolume(costs, gains, limit, floor.reward.values) / limit,
        hypervolume(drawn_costs, drawn_gains, limit, floor.reward.replicates) / limit,
    )
    return cells


def _parts(samples: Sequence[ChainValues]) -> tuple[list[FloatArray], list[FloatArray]]:
    return [one.values for one in samples], [one.replicates for one in samples]


def _frontier_of(row: RowSpec, found: Sequence[Point]) -> dict[str, Any]:
    costs = [0.0 if p.step == 0 else p.kl.mean for p in found]
    gains = [p.reward.mean for p in found]
    last = max(p.step for p in found)
    return {
        "id": row.id,
        "method": row.method,
        "label": row.label,
        "points": [point.as_json() for point in found],
        "frontier": pareto_frontier(costs, gains),
        "largest_kl": max(costs),
        "final": [
            {"beta": p.beta, "gamma": p.gamma, **interval(p.kl)}
            for p in found
            if p.step == last and p.beta is not None
        ],
    }


def _above_start(found: Sequence[Point], settings: StatisticsSettings) -> list[dict[str, Any]]:
    """Compare the last point of each setting with the start, Holm over the settings."""
    starts = {(p.beta, p.gamma): p for p in found if p.step == 0}
    last = max(p.step for p in found)
    ends = [p for p in found if p.step == last and last > 0]
    gains = {f"{p.beta}/{p.gamma}": p.reward.minus(starts[p.beta, p.gamma].reward) for p in ends}
    if not gains:
        return []
    zero = next(iter(gains.values()))
    compared = compare_with(zero.minus(zero), gains)
    adjusted = holm({name: one.p for name, one in compared.items() if one.p is not None})
    return [
        {
            "beta": p.beta,
            "gamma": p.gamma,
            "step": p.step,
            "difference": round(one.difference, DIGITS),
            "ci95": [round(one.low, DIGITS), round(one.high, DIGITS)],
            "p_holm": round(adjusted[name], DIGITS) if name in adjusted else None,
            "significant": bool(
                name in adjusted and adjusted[name] < settings.alpha and one.difference > 0
            ),
        }
        for p, (name, one) in zip(ends, compared.items(), strict=True)
    ]
