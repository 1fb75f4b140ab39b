"""From artefacts to the numbers of Table 2 and of Figures 6 and 8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.domains.code.notes import notes
from harness.domains.code.pipeline import BENCHMARKS, Graph
from harness.domains.code.profile import CodeProfile
from harness.domains.common.cells import Cells, compare_with, mean_cells
from harness.domains.common.dynamics import panels
from harness.domains.common.paper import paper_numbers
from harness.domains.common.spec import FigureSpec, TableSpec
from harness.graph.store import Store
from tasks.code.scores import DEFAULT_KS
from tasks.metrics.pass_at_k import pass_at_k

PAPER_SETTING = "StarCoder 1B, MBPP"
_PREFIX = {"humaneval": "humaneval", "mbpp_test": "mbpp"}


def table_json(
    spec: TableSpec,
    profile: CodeProfile,
    graph: Graph,
    store: Store,
    labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Put Table 2 together from the artefacts of its graph.

    Args:
        spec: what the table is.
        profile: all values.
        graph: its stages, all of them in the store.
        store: where they are.
        labels: row → how the table calls it, in the order of the rows.
        provenance: how the run was made.

    Returns:
        What table2.json holds; equal artefacts give equal values.
    """
    settings = profile.statistics
    reports = {
        row: [store.read_json(system.verdicts, "report.json") for system in systems]
        for row, systems in graph.systems.items()
    }
    cells = pass_cells(reports, profile)
    paper = paper_numbers(spec.id)
    ids = [column.id for column in spec.columns]
    missing = {
        column: f"{profile.sampling.test_samples} samples of each problem are too few"
        for column in ids
        if not any(column in own for own in cells.values())
    }
    table = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        "columns": ids,
        "column_labels": {column.id: column.label for column in spec.columns},
        "rows": [
            {
                "method": row,
                "label": label,
                "values": {c: cells[row][c].as_json() if c in cells[row] else None for c in ids},
                "paper": paper.get(row),
            }
            for row, label in labels.items()
        ],
        "missing": missing,
        "baseline": spec.baseline,
        "reference": spec.reference,
        "significance": [
            entry
            for baseline in dict.fromkeys((spec.baseline, "dpo"))
            for entry in compare_with(cells, baseline, ids, settings)
        ],
        "paper_setting": PAPER_SETTING,
        "tuned": {row: store.read_json(stage, "tuned.json") for row, stage in graph.tuned.items()},
        "provenance": {
            **provenance,
            "data": {
                f"seed {seed}": store.read_json(stage, "report.json")
                for seed, stage in graph.pairs.items()
            },
            "evaluation": evaluation_facts(reports),
            "training": {
                f"{row} seed {system.seed}": _training_facts(store, system.model)
                for row, systems in graph.systems.items()
                for system in systems
                if system.model is not None
            },
        },
    }
    return {**table, "notes": notes(table)}


def pass_cells(reports: Mapping[str, Sequence[Mapping[str, Any]]], profile: CodeProfile) -> Cells:
    """Compute pass@k of every row: 100 times the mean over problems of the unbiased estimate.

    Args:
        reports: row → report.json of each seed's verdicts.
        profile: with the number of samples of each problem.
    """
    cells: Cells = {}
    ks = [k for k in DEFAULT_KS if k <= profile.sampling.test_samples]
    for benchmark in BENCHMARKS:
        for k in ks:
            column = f"{_PREFIX[benchmark]}_pass@{k}"
            scores = {
                row: [_estimates(report, benchmark, k) for report in per_seed]
                for row, per_seed in reports.items()
            }
            for row, own in mean_cells(scores, column, profile.statistics).items():
                cells.setdefault(row, {}).update(own)
    return cells


def evaluation_facts(reports: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Say how programs were isolated and what came of them, row by row, over the seeds.

    Args:
        reports: row → report.json of each seed's verdicts.
    """
    tiers = sorted({report["tier"] for per_seed in reports.values() for report in per_seed})
    verdicts: dict[str, dict[str, dict[str, int]]] = {}
    forgeries = 0
    for row, per_seed in reports.items():
        verdicts[row] = {}
        for benchmark in BENCHMARKS:
            count: Counter[str] = Counter()
            for report in per_seed:
                own = report["benchmarks"][benchmark]
                count.update(own["verdicts"])
                forgeries += own["suspected_forgeries"]
            verdicts[row][benchmark] = dict(sorted(count.items()))
    return {"tiers": tiers, "verdicts": verdicts, "suspected_forgeries": forgeries}


def figure_json(
    spec: FigureSpec,
    profile: CodeProfile,
    graph: Graph,
    store: Store,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Put Figure 6 or 8 together from the histories of the tuning runs.

    Args:
        spec: what the figure is; its one row is the method.
        profile: all values.
        graph: its stages, all of them in the store.
        store: where they are.
        provenance: how the run was made.
    """
    (method,) = graph.runs
    runs = {
        beta: [store.read_json(stage, "training.json")["history"]]
        for beta, stage in graph.runs[method].items()
    }
    number = spec.id.removeprefix("figure")
    return {
        "id": spec.id,
        "title": spec.title,
        "heading": f"Figure {number} ({profile.name} profile). {spec.title}",
        "profile": profile.name,
        "method": method,
        "panels": panels(runs, common=method == "sparsepo-common"),
        "provenance": dict(provenance),
    }


def _estimates(report: Mapping[str, Any], benchmark: str, k: int) -> dict[str, float]:
    problems = report["benchmarks"][benchmark]["problems"]
    return {key: pass_at_k(samples, passed, k) for key, (samples, passed) in problems.items()}


def _training_facts(store: Store, model: Any) -> dict[str, Any]:
    facts = store.read_json(model, "training.json")
    return {name: facts[name] for name in ("steps", "kept_step", "tokenization")}
