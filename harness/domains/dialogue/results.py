"""From artefacts to a table's numbers: means, intervals, comparisons, what is missing and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from harness.domains.common.cells import Cells, mean_cells
from harness.domains.common.finished import FinishedRun
from harness.domains.common.generation import sampled_json
from harness.domains.common.paper import paper_numbers
from harness.domains.common.table import block_json, column_facts
from harness.domains.common.tuning import tuning_json
from harness.domains.common.work.files import MODEL
from harness.domains.dialogue.cells import leaderboard_cells
from harness.domains.dialogue.mask_cells import mask_cells
from harness.domains.dialogue.notes import notes
from harness.domains.dialogue.pipeline import Graph, System
from harness.domains.dialogue.profile import AlignmentProfile
from harness.graph.stages import Stage
from harness.graph.store import Store
from harness.render.fit import fit_notes
from tasks.leaderboard_v2.scoring import COLUMN_BENCHMARK

ProfileT = TypeVar("ProfileT", bound=AlignmentProfile)

_SUPPLEMENTS = (
    "What was gained, on held-out prompts",
    "What was gained, and what the mask has become, on held-out prompts",
)
"""Titles of the second table, without and with measured masks."""


def table_json(run: FinishedRun[ProfileT, Graph]) -> dict[str, Any]:
    """Return what a table's JSON holds; equal artefacts give equal values."""
    spec, graph, store, settings = run.table, run.graph, run.store, run.profile.statistics
    boards = {
        row: [store.read_json(system.leaderboard, "leaderboard.json") for system in systems]
        for row, systems in graph.systems.items()
    }
    cells = leaderboard_cells(boards, settings, [check.address for check in graph.checks])
    gained = _merge(
        mean_cells(
            {
                row: [
                    _accuracies(store, one.model, pairs)
                    for one, pairs in zip(own, graph.pairs, strict=True)
                    if one.model is not None
                ]
                for row, own in graph.systems.items()
                if own[0].model is not None
            },
            "preference_accuracy",
            settings,
        ),
        mean_cells(
            {
                row: [_wins(store, s) for s in own]
                for row, own in graph.systems.items()
                if own[0].judged is not None
            },
            "win_rate",
            settings,
        ),
        mask_cells(graph.systems, store, settings),
    )
    missing = dict(graph.notes)
    first_board = next(iter(boards.values()))[0]
    for entry in first_board["missing"]:
        missing.setdefault(entry["benchmark"], entry["reason"])
    reasons = {
        column.id: missing[COLUMN_BENCHMARK[column.id]]
        for column in spec.columns
        if column.id in COLUMN_BENCHMARK and COLUMN_BENCHMARK[column.id] in missing
    }
    reasons |= {column.id: missing[column.id] for column in spec.supplement if column.id in missing}
    present = [c.id for c in spec.columns if c.id != spec.average and c.id not in reasons]
    paper = paper_numbers(spec.id) if spec.paper_setting is not None else None
    baselines = (spec.baseline,)
    table = {
        "id": spec.id,
        "title": spec.title,
        "profile": run.profile.name,
        **column_facts((*spec.columns, *spec.supplement)),
        **block_json(run.rows, spec.columns, cells, settings, baselines=baselines, paper=paper),
        "average": spec.average,
        "average_of": present,
        "missing": reasons,
        "at_chance": _at_chance(cells, [row.id for row in run.rows], present),
        "baseline": spec.baseline,
        "paper_setting": spec.paper_setting,
        "supplement": {
            "title": _SUPPLEMENTS[run.profile.measured_masks is not None],
            **block_json(
                [row for row in run.rows if row.id in gained],
                spec.supplement,
                gained,
                settings,
                baselines=baselines,
            ),
        },
        **tuning_json(run.profile, graph.searches, store),
        "provenance": {
            **run.provenance,
            "chat_template": chat_template(store, graph),
            "evaluation": evaluation_facts(boards),
            "sampled": {
                "held-out prompts": sampled_json(
                    store,
                    [
                        system.judged.inputs["responses"]
                        for systems in graph.systems.values()
                        for system in systems
                        if system.judged is not None
                    ],
                )
            },
            "data": store.read_json(graph.pairs[0], "report.json"),
            "tokenization": {
                f"{row} seed {system.seed}": store.read_json(system.model, "training.json")[
                    "tokenization"
                ]
                for row, systems in graph.systems.items()
                for system in systems[:1]
                if system.model is not None
            },
        },
    }
    return {**table, **fit_notes(notes(table))}


def chat_template(store: Store, graph: Graph) -> str:
    """Name the chat template that was saved with the first trained model, by its text's hash."""
    models = [own[0].model for own in graph.systems.values() if own[0].model is not None]
    if not models:
        return "of the base model"
    folder = store.folder(models[0].address) / MODEL
    file = folder / "chat_template.jinja"
    if file.is_file():
        template = file.read_text(encoding="utf-8")
    else:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = str(config.get("chat_template"))
    return f"sha256 {hashlib.sha256(template.encode()).hexdigest()[:12]}"


def one_answer(boards: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """Return the leaf tasks whose rows, two or more, all have their right answer at one place.

    Args:
        boards: row id → the leaderboard.json of each of its chains.

    Returns:
        Leaf task → its rows. A model that always chooses that place is right in all of them.
    """
    return {
        leaf: task["n"]
        for board in next(iter(boards.values()))
        for leaf, task in board["tasks"].items()
        if task["n"] > 1 and len(set(task.get("right_options", ()))) == 1
    }


def evaluation_facts(boards: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Say how the leaderboard was run, and how many prompts were cut, over all systems."""
    first = next(iter(boards.values()))[0]
    truncated = {board["truncated_prompts"] for runs in boards.values() for board in runs}
    return {
        "max_length": first["max_length"],
        "truncated_prompts_per_model": sorted(truncated),
        "rows": {leaf: task["n"] for leaf, task in first["tasks"].items()},
        "one_answer": one_answer(boards),
        "skipped_rows": first["skipped"],
        "settings": first["settings"],
        "sentence_splitter": first["sentence_splitter"],
        "versions": first["versions"],
    }


def _at_chance(cells: Cells, rows: Sequence[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """Column → the rows whose interval does not lie above chance."""
    found: dict[str, list[str]] = {}
    for column in columns:
        at_chance = [row for row in rows if cells[row][column].above_chance is False]
        if at_chance:
            found[column] = at_chance
    return found


def _merge(*parts: Cells) -> Cells:
    merged: Cells = {}
    for part in parts:
        for row, columns in part.items():
            merged.setdefault(row, {}).update(columns)
    return merged


def _accuracies(store: Store, model: Stage, pairs: Stage) -> dict[str, float]:
    scores = store.read_json(model, "scores.json")
    # Pairs of two worlds may have the same ids.
    return {
        f"{pairs.address}/{s['pair_id']}": float(s["chosen_reward"] > s["rejected_reward"])
        for s in scores
    }


def _wins(store: Store, system: System) -> dict[str, float]:
    assert system.judged is not None
    judged = store.read_json(system.judged, "judged.json")
    world = system.judged.inputs["pairs"].address
    named = (f"{world}/{pair_id}" for pair_id in judged["pair_ids"])
    return dict(zip(named, judged["scores"], strict=True))
