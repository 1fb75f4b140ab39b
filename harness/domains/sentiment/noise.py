"""Label noise: reward, KL and the masks' AUROC after training with a share of the pairs flipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.domains.common.cells import Cells, Statistic
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import ColumnSpec, percentage
from harness.domains.common.table import block_json, column_facts
from harness.domains.sentiment.dynamics import last_ranking, ranked, ranked_responses, same_tokens
from harness.domains.sentiment.notes import noise_notes
from harness.domains.sentiment.pipeline import Graph, Run
from harness.domains.sentiment.points import Scored, read_scored
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.store import Store
from harness.render.fit import fit_notes

DECLINE = "decline"
_LABELS = {"reward": "Reward", "auroc": "AUROC"}


def noise_json(run: FinishedRun[SentimentProfile, Graph]) -> dict[str, Any]:
    """Return the content of noise.json.

    Returns:
        The table (reward at the end of training for each share, its decline from the smallest to
        the largest share, KL), `supplement` (AUROC of the masks and of DPO's token rewards) and
        `shares`, the flipped shares in percent with the ids of their columns.
    """
    spec, profile, graph, store = run.table, run.profile, run.graph, run.store
    shares = sorted(profile.noise.shares)
    rewards = [_column("reward", share) for share in shares]
    kls = [_column("kl", share) for share in shares]
    aurocs = [_column("auroc", share) for share in shares]
    ends = f"{100 * shares[0]:g} to {100 * shares[-1]:g} %"
    decline = ColumnSpec(DECLINE, f"Decline, {ends}", higher_is_better=False)
    columns = (*rewards, *((decline,) if len(shares) > 1 else ()), *kls)
    scored = read_scored(graph, store)
    cells = _end_cells(run, scored, shares)
    found = _auroc_cells(run, shares)
    settings, baselines = profile.statistics, (spec.baseline,)
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        **column_facts((*columns, *aurocs)),
        **block_json(run.rows, columns, cells, settings, baselines=baselines),
        "baseline": spec.baseline,
        "shares": [
            {"share": 100 * share, "reward": reward.id, "kl": kl.id, "auroc": auroc.id}
            for share, reward, kl, auroc in zip(shares, rewards, kls, aurocs, strict=True)
        ],
        "beta": profile.sweep.map_beta,
        "simpo": {"beta": profile.noise.simpo_beta, "gamma": profile.noise.simpo_gamma},
        "flipped": _flipped(graph, store),
        **scored.facts,
        "provenance": {**run.provenance, "data": store.read_json(graph.pairs[0], "report.json")},
    }
    if found:
        rows = [row for row in run.rows if row.id in found]
        result["supplement"] = {
            "title": "AUROC (%) of the reward mask, or of DPO's token rewards, for decisive tokens",
            **block_json(rows, aurocs, found, settings, baselines=baselines),
        }
    return {**result, **fit_notes(noise_notes(result))}


def _column(quantity: str, share: float) -> ColumnSpec:
    id, flipped = f"{quantity}_{100 * share:g}", f"{100 * share:g} %"
    if quantity == "kl":
        return ColumnSpec(id, f"KL, {flipped}", higher_is_better=None)
    return percentage(id, f"{_LABELS[quantity]}, {flipped}")


def _runs(graph: Graph, row: str, share: float) -> list[Run]:
    """Return a row's runs with a flipped share; those of SFT, which sees no pairs, for all."""
    return [one for one in graph.of(row) if one.flipped == share or one.beta is None]


def _end_cells(
    run: FinishedRun[SentimentProfile, Graph], scored: Scored, shares: Sequence[float]
) -> Cells:
    cells: Cells = {}
    for row in run.rows:
        own = cells.setdefault(row.id, {})
        for share in shares:
            end = scored.last_point(_runs(run.graph, row.id, share), run.profile.statistics)
            own[_column("reward", share).id] = Statistic(end.reward)
            own[_column("kl", share).id] = Statistic(end.kl)
        if len(shares) > 1 and row.method != "sft":
            first, last = (own[_column("reward", share).id] for share in (shares[0], shares[-1]))
            own[DECLINE] = Statistic(first.sample.minus(last.sample))
    return cells


def _auroc_cells(run: FinishedRun[SentimentProfile, Graph], shares: Sequence[float]) -> Cells:
    """AUROC at the end of training, for rows that rank tokens."""
    graph, store = run.graph, run.store
    cells: Cells = {}
    for row in run.rows:
        for share in shares:
            runs = [one for one in _runs(graph, row.id, share) if one.rankings is not None]
            if runs:
                chains = [last_ranking(one, store) for one in runs]
                statistic = ranked(chains, 0, ranked_responses(runs, store), same_tokens(graph))
                cells.setdefault(row.id, {})[_column("auroc", share).id] = statistic
    return cells


def _flipped(graph: Graph, store: Store) -> list[dict[str, Any]]:
    """How many pairs of the first chain were flipped, share by share."""
    seed = graph.runs[0].seed
    stages = {
        run.flipped: run.trained.inputs["pairs"]
        for run in graph.runs
        if run.seed == seed and run.flipped
    }
    return [store.read_json(stage, "report.json")["flipped"] for _, stage in sorted(stages.items())]
