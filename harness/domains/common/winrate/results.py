"""The JSON of a table of win rates, from the verdicts in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from harness.config.profiles import Profile
from harness.domains.common.cells import Cells, interval
from harness.domains.common.finished import FinishedRun
from harness.domains.common.generation import sampled_json
from harness.domains.common.table import block_json, column_facts
from harness.domains.common.winrate.cells import Lines, agreement, counts, verdict_cells
from harness.domains.common.winrate.notes import notes
from harness.domains.common.winrate.spec import BASELINE, CHOSEN
from harness.domains.common.winrate.stages import WinrateGraph
from harness.graph.stages import Stage
from harness.graph.store import Store
from harness.render.fit import fit_notes
from sparsepo.data.jsonl import read_jsonl

ProfileT = TypeVar("ProfileT", bound=Profile)


def winrate_json(run: FinishedRun[ProfileT, WinrateGraph], tiny: str = "") -> dict[str, Any]:
    """Return what `<id>.json` of a table of win rates holds.

    Args:
        run: an experiment whose verdicts are in the store.
        tiny: what is trained in the tiny profile, for the notes.

    Returns:
        The table; `judge` says which judge it was, its κ with the labels (`kappa`) and, for another
        judge than the world's rules, with these (`kappa_rules`), and counts its verdicts.
    """
    graph, store, settings = run.graph, run.store, run.profile.statistics
    sources = [chain.answers.pairs.address for chain in graph.chains]
    rows = list(graph.chains[0].answers.responses)
    cells: Cells = {row: {} for row in rows}
    asked: dict[str, Any] = {}
    for opponent in graph.chains[0].against:
        verdicts = {
            row: [
                _lines(store, chain.against[opponent][row], "verdicts.jsonl")
                for chain in graph.chains
            ]
            for row in rows
            if row != opponent
        }
        itself = None if opponent == CHOSEN else opponent
        found = verdict_cells(verdicts, sources, opponent, settings, itself)
        for row, columns in found.items():
            cells[row].update(columns)
        asked[opponent] = {row: counts(chains) for row, chains in verdicts.items()}
    missing, failed = _missing(run, cells, asked)
    table = {
        "id": run.table.id,
        "title": run.table.title,
        "profile": run.profile.name,
        **column_facts(run.table.columns),
        **block_json(run.rows, run.table.columns, cells, settings, baselines=(BASELINE,)),
        "average": None,
        "missing": missing,
        "missing_cells": failed,
        "baseline": BASELINE,
        "task": graph.contest.task,
        "judge": {**_judge(run), "verdicts": asked},
        "provenance": {
            **run.provenance,
            "data": store.read_json(graph.chains[0].answers.pairs, "report.json"),
            "sampled": {
                "held-out prompts": sampled_json(
                    store, [s for chain in graph.chains for s in chain.answers.responses.values()]
                )
            },
        },
    }
    return {**table, **fit_notes(notes(table, tiny))}


def _judge(run: FinishedRun[ProfileT, WinrateGraph]) -> dict[str, Any]:
    graph, store, settings = run.graph, run.store, run.profile.statistics
    labelled = [_lines(store, chain.labels, "labels.jsonl") for chain in graph.chains]
    sources = [chain.answers.pairs.address for chain in graph.chains]
    found: dict[str, Any] = {
        "kind": graph.judge.kind,
        # A local folder is named by its contents, not by its path on this machine.
        "model": run.provenance["settings"]["judge"]["model"],
        "signature": store.read_json(graph.chains[0].labels, "judge.json"),
        "labelled": counts(labelled),
        "trained": _trained(store, [chain.trained for chain in graph.chains]),
    }
    against = {"kappa": None}
    if graph.judge.kind != "rules" and graph.contest.rules is not None:
        against["kappa_rules"] = "rules"  # type: ignore[assignment]  # a field of the lines
    for name, truth in against.items():
        sample = agreement(labelled, sources, settings, truth)
        found[name] = (
            None
            if sample is None
            else {**interval(sample, (-1.0, 1.0)), "n": min(map(len, labelled))}
        )
    return found


def _trained(store: Store, stages: Sequence[Stage | None]) -> list[dict[str, Any]] | None:
    """Return what each chain's judge was trained on; None for a judge that was not."""
    reports = [store.read_json(stage, "reward.json") for stage in stages if stage is not None]
    return reports or None


def _missing(
    run: FinishedRun[ProfileT, WinrateGraph], cells: Cells, asked: Mapping[str, Any]
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return why columns are missing, and which single cells are."""
    missing = {}
    failed = []
    for column in run.table.columns:
        opponent = CHOSEN if column.id in ("first_shown", "characters") else column.id.split("_")[1]
        if opponent not in asked:
            missing[column.id] = "DPO is not among the rows"
            continue
        absent = [row for row in run.rows if column.id not in cells[row.id]]
        if len(absent) == len(run.rows):
            missing[column.id] = "the judge gave no usable verdict"
        else:
            failed += [{"row": row.id, "column": column.id} for row in absent]
    return missing, failed


def _lines(store: Store, stage: Stage, name: str) -> Lines:
    return list(read_jsonl(store.folder(stage.address) / name))
