"""From artefacts to Figure 5's numbers: curves over temperature, tests, correlations with truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import DIGITS, Cells, interval
from harness.domains.common.finished import FinishedRun
from harness.domains.common.generation import sampled_json
from harness.domains.common.spec import ColumnSpec, RowSpec
from harness.domains.common.table import block_json, column_facts
from harness.domains.summarization.cells import Curve, curves, matched
from harness.domains.summarization.experiments import MetricSpec, TemperatureFigure
from harness.domains.summarization.notes import notes
from harness.domains.summarization.pipeline import Graph
from harness.domains.summarization.profile import SummarizationProfile
from harness.graph.store import Store
from harness.render.fit import fit_notes
from tasks.metrics.chains import ChainValues
from tasks.metrics.significance import holm

TRUTHS = ("coverage", "faithfulness", "preference")
NO_TRUTH = "only the world's posts have a known truth"


def figure_json(run: FinishedRun[SummarizationProfile, Graph]) -> dict[str, Any]:
    """Return what figure5.json holds; equal artefacts give equal values."""
    spec, graph, store, settings = run.experiment, run.graph, run.store, run.profile.statistics
    assert isinstance(spec, TemperatureFigure)
    scored = {
        row: [store.read_json(system.scores, "scores.json") for system in systems]
        for row, systems in graph.systems.items()
    }
    found = _all_curves(spec, graph, scored, settings)
    temperatures = [f"{t:g}" for t in run.profile.sampling.temperatures]
    shown = [metric for metric in (*spec.panels, *spec.beyond) if metric.id in found]
    # Holm's procedure tests its first comparison at α over all of them, not those of one column.
    columns_of = {
        metric.id: sum(len(_compared(m, temperatures)) for m in family if m.id in found)
        for family in (spec.panels, spec.beyond)
        for metric in family
    }
    blocks = {
        metric.id: _block(
            metric,
            found[metric.id],
            temperatures,
            run.rows,
            replace(settings, alpha=settings.alpha / max(1, columns_of[metric.id])),
            spec.baseline,
        )
        for metric in shown
    }
    equal = _matched_block(spec, found, run.rows, settings)
    families = [
        [blocks[m.id] for m in family if m.id in blocks] for family in (spec.panels, spec.beyond)
    ]
    for family in (*families, [equal] if equal is not None else []):
        adjust_over(family, settings)
    columns = [column for m in shown for column in _columns(m, temperatures)]
    parts = [blocks[metric.id] for metric in shown]
    first, *others = [*parts, *([equal] if equal is not None else [])]
    result = {
        "id": spec.id,
        "title": spec.title,
        "profile": run.profile.name,
        **column_facts([*columns, *_matched_columns(spec)]),
        **{key: value for key, value in first.items() if key != "title"},
        "first_title": first["title"],
        "parts": others,
        "baseline": spec.baseline,
        "temperatures": temperatures,
        "panels": [metric.id for metric in spec.panels],
        "beyond": [metric.id for metric in spec.beyond],
        "trade_off": list(spec.trade_off),
        "metrics": _metric_facts(scored, shown),
        "missing": _missing(spec, graph, found),
        "correlations": _correlations(graph, store),
        "nli": None if graph.nli is None else store.read_json(graph.nli, "model/nli.json"),
        "sampled": {
            "posts": sampled_json(
                store, [system.samples for own in graph.systems.values() for system in own]
            )
        },
        "provenance": {
            **run.provenance,
            "data": store.read_json(graph.pairs[0], "report.json"),
            "prompts": store.read_json(graph.prompts[0], "report.json"),
        },
    }
    return {**result, **fit_notes(notes(result))}


def adjust_over(blocks: Sequence[dict[str, Any]], settings: StatisticsSettings) -> None:
    """Adjust the p-values of several blocks together, by Holm over all their comparisons.

    Args:
        blocks: as `block_json` returns them, where the adjustment is within each column; changed in
            place, with the `detectable` effects of the larger family.
        settings: alpha.
    """
    entries = [entry for block in blocks for entry in block["significance"]]
    adjusted = holm({str(i): e["p"] for i, e in enumerate(entries) if e["p"] is not None})
    for index, entry in enumerate(entries):
        p = adjusted.get(str(index))
        entry["p_holm"] = None if p is None else round(p, DIGITS)
        entry["significant"] = p is not None and p < settings.alpha


def _all_curves(
    spec: TemperatureFigure,
    graph: Graph,
    scored: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: StatisticsSettings,
) -> dict[str, dict[str, Curve]]:
    """Metric → row → curve."""
    values = {
        row: [
            {
                **{name: metric["values"] for name, metric in chain["metrics"].items()},
                **(chain["truth"] or {}),
            }
            for chain in chains
        ]
        for row, chains in scored.items()
    }
    items = {
        row: [
            [f"{place.address}/{prompt}" for prompt in chain["prompt_ids"]]
            for place, chain in zip(graph.prompts, chains, strict=True)
        ]
        for row, chains in scored.items()
    }
    first = next(iter(values.values()))[0]
    found = {
        metric.id: curves(values, items, metric.id, metric.scale, settings)
        for metric in (*spec.panels, *spec.beyond)
        if metric.id in first
    }
    return {name: rows for name, rows in found.items() if any(rows.values())}


def _columns(metric: MetricSpec, temperatures: Sequence[str]) -> list[ColumnSpec]:
    return [
        ColumnSpec(
            f"{metric.id}_{temperature}",
            f"{metric.label} at {temperature}",
            metric.higher_is_better,
            metric.bounds,
        )
        for temperature in temperatures
    ]


def _block(
    metric: MetricSpec,
    found: Mapping[str, Curve],
    temperatures: Sequence[str],
    rows: Sequence[RowSpec],
    settings: StatisticsSettings,
    baseline: str,
) -> dict[str, Any]:
    cells: Cells = {
        row: {f"{metric.id}_{temperature}": cell for temperature, cell in curve.items()}
        for row, curve in found.items()
    }
    columns = _columns(metric, temperatures)
    block = block_json(rows, columns, cells, settings, baselines=(baseline,))
    compared = {f"{metric.id}_{temperature}" for temperature in _compared(metric, temperatures)}
    block["significance"] = [e for e in block["significance"] if e["column"] in compared]
    block["detectable"] = {c: d for c, d in block["detectable"].items() if c in compared}
    return {"title": metric.label, "metric": metric.id, **block}


def _compared(metric: MetricSpec, temperatures: Sequence[str]) -> list[str]:
    """Return the temperatures at which methods are compared."""
    return [t for t in temperatures if not (metric.between_samples and float(t) == 0.0)]


def _matched_columns(spec: TemperatureFigure) -> list[ColumnSpec]:
    labels = {metric.id: metric.label for metric in spec.panels}
    across = labels[spec.trade_off[0]]
    return [
        ColumnSpec(f"{name}_matched", f"{labels[name]} at equal {across}") for name in spec.matched
    ]


def _matched_block(
    spec: TemperatureFigure,
    found: Mapping[str, Mapping[str, Curve]],
    rows: Sequence[RowSpec],
    settings: StatisticsSettings,
) -> dict[str, Any] | None:
    """Differences from the baseline at its own values of the trade-off's first metric."""
    across = found.get(spec.trade_off[0])
    cells: Cells = {}
    for name in spec.matched:
        if across is None or name not in found:
            continue
        for row, cell in matched(across, found[name], spec.baseline).items():
            cells.setdefault(row, {})[f"{name}_matched"] = cell
    if not cells:
        return None
    block = block_json(rows, _matched_columns(spec), cells, settings, baselines=(spec.baseline,))
    label = next(metric.label for metric in spec.panels if metric.id == spec.trade_off[0])
    return {"title": f"Differences from DPO at equal {label}", "metric": "matched", **block}


def _metric_facts(
    scored: Mapping[str, Sequence[Mapping[str, Any]]], shown: Sequence[MetricSpec]
) -> list[dict[str, Any]]:
    """Return label, signature, and counts of missing values of each metric."""
    first = next(iter(scored.values()))[0]["metrics"]
    facts = []
    for metric in shown:
        missing: dict[str, int] = {}
        for chains in scored.values():
            for chain in chains:
                for reason, count in chain["metrics"].get(metric.id, {}).get("missing", {}).items():
                    missing[reason] = missing.get(reason, 0) + count
        facts.append(
            {
                "id": metric.id,
                "label": metric.label,
                "signature": first[metric.id]["signature"] if metric.id in first else None,
                "notes": first[metric.id]["notes"] if metric.id in first else [],
                "missing": missing,
            }
        )
    return facts


def _missing(
    spec: TemperatureFigure, graph: Graph, found: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    return {
        metric.id: {
            "label": metric.label,
            "reason": NO_TRUTH
            if metric.id in TRUTHS
            else graph.missing.get(metric.id, "no summary has a value"),
        }
        for metric in (*spec.panels, *spec.beyond)
        if metric.id not in found
    }


def _correlations(graph: Graph, store: Store) -> dict[str, dict[str, Any]] | None:
    """Metric → truth → Spearman's ρ, its interval over chains."""
    if not graph.correlations:
        return None
    chains = [store.read_json(stage, "correlations.json") for stage in graph.correlations]
    found: dict[str, dict[str, Any]] = {}
    for name in chains[0]:
        for truth in chains[0][name]:
            own = [chain[name][truth] for chain in chains]
            if any(one["rho"] is None for one in own):
                continue
            drawn = [
                [one["rho"] if value is None else value for value in one["replicates"]]
                for one in own
            ]
            sample = ChainValues(
                np.array([one["rho"] for one in own]), np.array(drawn), own[0]["posts"]
            )
            cell = {**interval(sample, (-1.0, 1.0)), "n": own[0]["posts"]}
            found.setdefault(name, {})[truth] = cell
    return found
