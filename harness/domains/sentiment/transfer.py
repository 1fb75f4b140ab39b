"""Transferred masks: reward, KL and AUROC of training with masks of other models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.domains.common.cells import Cells, Statistic, compare_rows
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import percentage
from harness.domains.common.table import block_json, column_facts
from harness.domains.sentiment.dynamics import last_ranking, ranked, ranked_responses, same_tokens
from harness.domains.sentiment.experiments import TransferRow
from harness.domains.sentiment.frontier import frontier_cells
from harness.domains.sentiment.notes import transfer_notes
from harness.domains.sentiment.pipeline import Graph
from harness.domains.sentiment.points import read_scored
from harness.domains.sentiment.profile import SentimentProfile
from harness.domains.sentiment.sources import knows_decisive_tokens
from harness.render.fit import fit_notes


def transfer_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return the content of transfer.json.

    Every row is compared with training without masks, and the masks that are not shuffled also with
    the shuffled ones of the same setup.
    """
    spec, profile, graph, store = run.table, run.profile, run.graph, run.store
    settings = profile.statistics
    # The oracle has no runs where the decisive tokens are not known.
    rows = [row for row in run.rows if graph.of(row.id)]
    known = knows_decisive_tokens(profile)
    budgets = [
        percentage(f"reward_{kl:g}", f"Reward at {kl:g} nats")
        for kl in profile.evaluation.kl_budgets
    ]
    auroc = (percentage("auroc", "AUROC of the mask"),) if known else ()
    columns = (*spec.columns, *budgets, *auroc)
    scored = read_scored(graph, store)
    points = {row.id: scored.points(graph.of(row.id), settings) for row in rows}
    start = spec.reference if spec.reference in points else None
    cells: Cells = {}
    for row in rows:
        runs = graph.of(row.id)
        end = scored.last_point(runs, settings)
        at_budgets = frontier_cells(points[row.id], profile, start, points)
        cells[row.id] = {
            "reward": Statistic(end.reward),
            "kl": Statistic(end.kl),
            **{column.id: at_budgets[column.id] for column in budgets},
        }
        if known and isinstance(row, TransferRow):
            chains = [last_ranking(one, store) for one in runs]
            items = ranked_responses(runs, store)
            cells[row.id]["auroc"] = ranked(chains, 0, items, same_tokens(graph))
    block = block_json(rows, columns, cells, settings, baselines=(spec.baseline,))
    ids = [column.id for column in columns]
    for baseline, compared in _shuffled_with(run).items():
        own = {row: cells[row] for row in (baseline, *compared) if row in cells}
        block["significance"] += compare_rows(
            own, baseline, ids, settings, {row.id: row.method for row in rows}
        ).entries
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        **column_facts(columns),
        **block,
        "baseline": spec.baseline,
        "beta": profile.sweep.map_beta,
        "decisive_tokens_known": known,
        "sources": _sources(profile),
        **scored.facts,
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    return {**result, **fit_notes(transfer_notes(result))}


def _shuffled_with(run: FinishedRun[SentimentProfile, Graph]) -> Mapping[str, list[str]]:
    """A row of shuffled masks → the other rows of its method with masks of models."""
    masked = [row for row in run.rows if isinstance(row, TransferRow) and row.mask != "oracle"]
    return {
        row.id: [other.id for other in masked if other.method == row.method and other is not row]
        for row in masked
        if row.mask == "shuffled"
    }


def _sources(profile: SentimentProfile) -> dict[str, str]:
    """What the models whose masks are transferred are called."""
    values, base = profile.transfer, profile.base
    return {
        "same": values.same_model or f"{base.architecture} from another initialisation",
        "other": values.other_model or f"{values.other_architecture} of the same size",
    }
