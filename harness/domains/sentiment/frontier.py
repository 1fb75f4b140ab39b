"""Figure 2's numbers: points with intervals, frontiers, and what can be said of them.

A frontier is made in each chain by itself, so that its gain and its volume have one value per
chain; the picture's points and frontier are means over chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic, compare_with_zero, interval
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import RowSpec, percentage
from harness.domains.common.table import block_json, column_facts
from harness.domains.common.tuning import tuning_json
from harness.domains.sentiment.notes import frontier_notes
from harness.domains.sentiment.pipeline import Graph
from harness.domains.sentiment.points import Point, read_scored
from harness.domains.sentiment.profile import SentimentProfile
from harness.render.fit import fit_notes
from tasks.metrics.chains import ChainValues
from tasks.metrics.frontier import frontier_gain, hypervolume, pareto_frontier
from tasks.metrics.significance import FloatArray


def frontier_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return what figure2.json holds; equal artefacts give equal values.

    Rewards are in percent, KL in nats per response.

    Raises:
        UserError: if the reward model scores no prompt's responses throughout.
    """
    spec, profile, graph, store = run.table, run.profile, run.graph, run.store
    scored = read_scored(graph, store)
    points = {row.id: scored.points(graph.of(row.id), profile.statistics) for row in run.rows}
    start = spec.reference if spec.reference in points else None
    cells = {row: frontier_cells(found, profile, start, points) for row, found in points.items()}
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
        "methods": [frontier_of(row, points[row.id]) for row in run.rows],
        "above_start": {
            row: _above_start(found, profile.statistics) for row, found in points.items()
        },
        **scored.facts,
        **tuning_json(profile, graph.searches, store),
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    return {**result, **fit_notes(frontier_notes(result))}


def frontier_cells(
    found: Sequence[Point],
    profile: SentimentProfile,
    reference: str | None,
    points: Mapping[str, Sequence[Point]],
) -> dict[str, Statistic]:
    """Return the reward at each KL budget, and the hypervolume above the start's reward.

    Args:
        found: the points of a row.
        profile: budgets and limit.
        reference: the row of the start; None to take the row's own start.
        points: row → its points.

    Returns:
        Column → its value in every chain.
    """
    (costs, drawn_costs), (gains, drawn_gains) = costs_and_gains(found)
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


def costs_and_gains(
    found: Sequence[Point],
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Return the KL of points and their rewards, each in every chain and in every replicate.

    Args:
        found: the points.

    Returns:
        Arrays with the points last, (chains, points) and (chains, replicates, points), so that one
        call treats all chains, another all of their replicates.
    """
    costs, drawn_costs = _parts([p.kl for p in found])
    # The start's own estimated KL may lie beside 0 by rounding; its cost is 0 by definition.
    start = np.array([p.step == 0 for p in found])
    paid = np.where(start, 0.0, costs), np.where(start, 0.0, drawn_costs)
    return paid, _parts([p.reward for p in found])


def _parts(samples: Sequence[ChainValues]) -> tuple[FloatArray, FloatArray]:
    values, replicates = [one.values for one in samples], [one.replicates for one in samples]
    return np.stack(values, axis=-1), np.stack(replicates, axis=-1)


def frontier_of(row: RowSpec, found: Sequence[Point]) -> dict[str, Any]:
    """Return a row's points as a result's JSON has them, and which of them are its frontier.

    Args:
        row: the row.
        found: its points.
    """
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
    compared = compare_with_zero(gains, settings)
    return [
        {
            "beta": p.beta,
            "gamma": p.gamma,
            "step": p.step,
            **one,
            "significant": one["significant"] and one["difference"] > 0,
        }
        for p, one in zip(ends, compared.values(), strict=True)
    ]
