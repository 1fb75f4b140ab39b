"""Figure 2's numbers: points with intervals, frontiers, and what can be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import DIGITS, Statistic, interval
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import RowSpec, percentage
from harness.domains.common.table import block_json, column_facts
from harness.domains.sentiment.notes import frontier_notes
from harness.domains.sentiment.pipeline import Graph, Run
from harness.domains.sentiment.profile import SentimentProfile
from sparsepo.errors import UserError
from tasks.metrics.frontier import frontier_gain, hypervolume, pareto_frontier
from tasks.metrics.response_kl import response_kl
from tasks.metrics.significance import FloatArray, bootstrap_mean, compare, holm


@dataclass(frozen=True)
class Point:
    """One policy of one row: reward (in percent) and KL, with bootstrap replicates."""

    beta: float | None
    gamma: float | None
    step: int
    reward: float
    kl: float
    rewards: FloatArray
    kls: FloatArray
    n: int
    seeds: int
    tokens: float
    ended: float

    def as_json(self) -> dict[str, Any]:
        """Return the point as figure2.json holds it."""
        return {
            "beta": self.beta,
            "gamma": self.gamma,
            "step": self.step,
            "reward": interval(self.reward, self.rewards),
            "kl": interval(self.kl, self.kls),
            "n": self.n,
            "seeds": self.seeds,
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
    kept, missing = _scored_prompts(list(read.values()))
    points = {row.id: _points(graph.of(row.id), read, kept, profile.statistics) for row in run.rows}
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
        "reward_model": next(iter(read.values()))["reward"],
        "missing_rewards": missing,
        "truncated_prompts": max(
            point["truncated_prompts"] for one in read.values() for point in one["points"]
        ),
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    return {**result, "notes": frontier_notes(result)}


def _scored_prompts(runs: Sequence[Mapping[str, Any]]) -> tuple[list[int], int]:
    """The prompts whose responses all have a reward, and how many responses have none."""
    rewards = [point["rewards"] for run in runs for point in run["points"]]
    missing = sum(score is None for scores in rewards for score in scores)
    kept = [
        index
        for index in range(len(rewards[0]))
        if all(scores[index] is not None for scores in rewards)
    ]
    if not kept:
        raise UserError(
            "The reward model gives every prompt some response without a finite reward; use "
            "another one (model.reward)."
        )
    return kept, missing


def _points(
    runs: Sequence[Run],
    read: Mapping[int, Mapping[str, Any]],
    kept: Sequence[int],
    settings: StatisticsSettings,
) -> list[Point]:
    """A row's points: one per β, γ and step, over all seeds."""
    found: dict[tuple[float | None, float | None, int], list[Mapping[str, Any]]] = {}
    for run in runs:
        for point in read[id(run)]["points"]:
            found.setdefault((run.beta, run.gamma, point["step"]), []).append(point)
    points = []
    for (beta, gamma, step), seeds in found.items():
        rewards = 100.0 * np.array([[one["rewards"][i] for i in kept] for one in seeds])
        policy, reference = (
            np.array([[one[name][i] for i in kept] for one in seeds])
            for name in ("logps", "ref_logps")
        )
        points.append(
            Point(
                beta,
                gamma,
                step,
                float(rewards.mean()),
                response_kl(policy, reference),
                # The same seed draws the same prompts for reward and KL, and for every point.
                bootstrap_mean(rewards, settings.replicates, settings.seed),
                bootstrap_mean(policy - reference, settings.replicates, settings.seed),
                rewards.shape[1],
                rewards.shape[0],
                float(np.mean([one["tokens"] for one in seeds])),
                float(np.mean([one["ended"] for one in seeds])),
            )
        )
    return points


def _cells(
    found: Sequence[Point],
    profile: SentimentProfile,
    reference: str | None,
    points: Mapping[str, Sequence[Point]],
) -> dict[str, Statistic]:
    """Reward at each KL budget, and the hypervolume above the start's reward."""
    costs, gains = np.array([p.kl for p in found]), np.array([p.reward for p in found])
    drawn_costs = np.stack([p.kls for p in found], axis=1)
    drawn_gains = np.stack([p.rewards for p in found], axis=1)
    # The start's own estimated KL may lie beside 0 by rounding; its cost is 0 by definition.
    start = np.array([p.step == 0 for p in found])
    costs, drawn_costs = np.where(start, 0.0, costs), np.where(start, 0.0, drawn_costs)
    floor = next((p for p in points[reference]), None) if reference else None
    floor = floor or next(p for p in found if p.step == 0)
    limit = profile.evaluation.kl_limit
    n, seeds = found[0].n, found[0].seeds
    cells = {}
    for budget in profile.evaluation.kl_budgets:
        cells[f"reward_{budget:g}"] = Statistic(
            float(frontier_gain(costs, gains, budget)),
            frontier_gain(drawn_costs, drawn_gains, budget),
            n,
            seeds,
        )
    cells["hypervolume"] = Statistic(
        float(hypervolume(costs, gains, limit, floor.reward)) / limit,
        hypervolume(drawn_costs, drawn_gains, limit, floor.rewards) / limit,
        n,
        seeds,
    )
    return cells


def _frontier_of(row: RowSpec, found: Sequence[Point]) -> dict[str, Any]:
    costs = [0.0 if p.step == 0 else p.kl for p in found]
    gains = [p.reward for p in found]
    last = max(p.step for p in found)
    return {
        "id": row.id,
        "method": row.method,
        "label": row.label,
        "points": [point.as_json() for point in found],
        "frontier": pareto_frontier(costs, gains),
        "largest_kl": max(costs),
        "final": [
            {"beta": p.beta, "gamma": p.gamma, **interval(p.kl, p.kls)}
            for p in found
            if p.step == last and p.beta is not None
        ],
    }


def _above_start(found: Sequence[Point], settings: StatisticsSettings) -> list[dict[str, Any]]:
    """Compare the last point of each setting with the start, Holm over the settings."""
    starts = {(p.beta, p.gamma): p for p in found if p.step == 0}
    last = max(p.step for p in found)
    ends = [p for p in found if p.step == last and last > 0]
    compared = {
        f"{p.beta}/{p.gamma}": compare(
            p.rewards, starts[p.beta, p.gamma].rewards, p.reward - starts[p.beta, p.gamma].reward
        )
        for p in ends
    }
    adjusted = holm({name: one.p for name, one in compared.items()})
    return [
        {
            "beta": p.beta,
            "gamma": p.gamma,
            "step": p.step,
            "difference": round(one.difference, DIGITS),
            "ci95": [round(one.low, DIGITS), round(one.high, DIGITS)],
            "p_holm": round(adjusted[name], DIGITS),
            "significant": bool(adjusted[name] < settings.alpha and one.difference > 0),
        }
        for p, (name, one) in zip(ends, compared.items(), strict=True)
    ]
