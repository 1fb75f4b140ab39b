"""From artefacts to the numbers of Table 2 and of Figures 6 and 8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.domains.code.notes import figure_notes, notes
from harness.domains.code.pipeline import BENCHMARKS, Graph
from harness.domains.code.profile import CodeProfile
from harness.domains.common.cells import Cells, mean_cells
from harness.domains.common.dynamics import dynamics_facts
from harness.domains.common.finished import FinishedRun
from harness.domains.common.generation import sampled_json
from harness.domains.common.paper import paper_numbers
from harness.domains.common.spec import DynamicsSpec
from harness.domains.common.table import block_json, column_facts
from harness.domains.common.tuning import tuning_json
from harness.graph.store import Store
from harness.render.fit import fit_notes
from tasks.code.scores import DEFAULT_KS
from tasks.metrics.pass_at_k import pass_at_k

_PREFIX = {"humaneval": "humaneval", "mbpp_test": "mbpp"}


def table_json(run: FinishedRun[CodeProfile, Graph]) -> dict[str, Any]:
    """Return what table2.json holds; equal artefacts give equal values."""
    spec, graph, store = run.table, run.graph, run.store
    reports = {
        row: [store.read_json(system.verdicts, "report.json") for system in systems]
        for row, systems in graph.systems.items()
    }
    cells = pass_cells(reports, run.profile, [stage.address for stage in graph.problems])
    missing = {
        column.id: f"{run.profile.sampling.test_samples} samples of each problem are too few"
        for column in spec.columns
        if not any(column.id in own for own in cells.values())
    }
    table = {
        "id": spec.id,
        "title": spec.title,
        "profile": run.profile.name,
        **column_facts(spec.columns),
        **block_json(
            run.rows,
            spec.columns,
            cells,
            run.profile.statistics,
            baselines=(spec.baseline, "dpo"),
            paper=paper_numbers(spec.id) if spec.paper_setting is not None else None,
        ),
        "missing": missing,
        "baseline": spec.baseline,
        "reference": spec.reference,
        "paper_setting": spec.paper_setting,
        "tuned": {
            row: {
                f"seed {system.seed}": store.read_json(system.tuned, "tuned.json")
                for system in systems
                if system.tuned is not None
            }
            for row, systems in graph.systems.items()
            if systems[0].tuned is not None
        },
        **tuning_json(run.profile, graph.searches, store),
        "provenance": {
            **run.provenance,
            "data": {
                f"seed {seed}": store.read_json(stage, "report.json")
                for seed, stage in graph.pairs.items()
            },
            "evaluation": evaluation_facts(reports),
            "sampled": _sampled(graph, store),
            "training": {
                f"{row} seed {system.seed}": _training_facts(store, system.model)
                for row, systems in graph.systems.items()
                for system in systems
                if system.model is not None
            },
        },
    }
    return {**table, **fit_notes(notes(table))}


def _sampled(graph: Graph, store: Store) -> dict[str, dict[str, int]]:
    """Return the counts of sampled programs: for the table, and for the preference pairs."""
    tested = [
        system.verdicts.inputs["samples"]
        for systems in graph.systems.values()
        for system in systems
    ]
    paired = [
        pairs.inputs["samples"] for pairs in graph.pairs.values() if "samples" in pairs.inputs
    ]
    return {
        "test problems": sampled_json(store, tested),
        "training problems": sampled_json(store, paired),
    }


def pass_cells(
    reports: Mapping[str, Sequence[Mapping[str, Any]]],
    profile: CodeProfile,
    sources: Sequence[str] | None = None,
) -> Cells:
    """Compute pass@k of every row: 100 times the mean over problems of the unbiased estimate.

    Args:
        reports: row → report.json of each chain's verdicts.
        profile: with the number of samples of each problem.
        sources: what tells apart problems of equal ids, for each chain: where they come from.
    """
    cells: Cells = {}
    ks = [k for k in DEFAULT_KS if k <= profile.sampling.test_samples]
    for benchmark in BENCHMARKS:
        for k in ks:
            column = f"{_PREFIX[benchmark]}_pass@{k}"
            scores = {
                row: [
                    _estimates(report, benchmark, k, sources[chain] if sources else "")
                    for chain, report in enumerate(per_chain)
                ]
                for row, per_chain in reports.items()
            }
            for row, own in mean_cells(scores, column, profile.statistics).items():
                cells.setdefault(row, {}).update(own)
    return cells


def evaluation_facts(reports: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Say how programs were isolated and what came of them, row by row, over the chains.

    Args:
        reports: row → report.json of each chain's verdicts.
    """
    tiers = sorted({report["tier"] for per_chain in reports.values() for report in per_chain})
    verdicts: dict[str, dict[str, dict[str, int]]] = {}
    forgeries = 0
    for row, per_chain in reports.items():
        verdicts[row] = {}
        for benchmark in BENCHMARKS:
            count: Counter[str] = Counter()
            for report in per_chain:
                own = report["benchmarks"][benchmark]
                count.update(own["verdicts"])
                forgeries += own["suspected_forgeries"]
            verdicts[row][benchmark] = dict(sorted(count.items()))
    return {"tiers": tiers, "verdicts": verdicts, "suspected_forgeries": forgeries}


def figure_json(run: FinishedRun[CodeProfile, Graph]) -> dict[str, Any]:
    """Return what figure6.json or figure8.json holds, from the histories of the tuning runs."""
    spec, profile = run.experiment, run.profile
    assert isinstance(spec, DynamicsSpec)
    (row,) = spec.rows
    runs = {
        beta: [run.store.read_json(stage, "training.json")["history"]]
        for beta, stage in run.graph.runs[row.id].items()
    }
    result = {
        **dynamics_facts(spec, row, profile.name, runs),
        "provenance": dict(run.provenance),
    }
    return {**result, **fit_notes(figure_notes(result))}


def _estimates(report: Mapping[str, Any], benchmark: str, k: int, source: str) -> dict[str, float]:
    problems = report["benchmarks"][benchmark]["problems"]
    return {
        f"{source}/{key}": pass_at_k(samples, passed, k)
        for key, (samples, passed) in problems.items()
    }


def _training_facts(store: Store, model: Any) -> dict[str, Any]:
    facts = store.read_json(model, "training.json")
    return {name: facts[name] for name in ("steps", "kept_step", "tokenization")}
