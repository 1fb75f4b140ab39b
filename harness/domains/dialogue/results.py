"""From artefacts to a table's numbers: means, intervals, comparisons, what is missing and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.domains.common.cells import Cells, Statistic, compare_with, mean_cells
from harness.domains.common.paper import paper_numbers
from harness.domains.common.spec import TableSpec
from harness.domains.dialogue.cells import leaderboard_cells
from harness.domains.dialogue.notes import notes
from harness.domains.dialogue.pipeline import Graph, System
from harness.domains.dialogue.profile import DialogueProfile
from harness.graph.store import Store
from tasks.leaderboard_v2.scoring import COLUMN_BENCHMARK


def table_json(
    spec: TableSpec,
    profile: DialogueProfile,
    graph: Graph,
    store: Store,
    labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Put a table together from the artefacts of its graph.

    Args:
        spec: what the table is.
        profile: all values.
        graph: its stages, all of them in the store.
        store: where they are.
        labels: method → how the table calls it, in the order of the rows.
        provenance: how the run was made.

    Returns:
        What table1.json holds; equal artefacts give equal values.
    """
    settings = profile.statistics
    boards = {
        method: [store.read_json(system.leaderboard, "leaderboard.json") for system in systems]
        for method, systems in graph.systems.items()
    }
    cells = leaderboard_cells(boards, settings)
    gained = _merge(
        mean_cells(
            {m: [_accuracies(store, s) for s in systems] for m, systems in graph.systems.items()},
            "preference_accuracy",
            settings,
        ),
        mean_cells(
            {
                m: [_wins(store, s) for s in systems]
                for m, systems in graph.systems.items()
                if systems[0].judged is not None
            },
            "win_rate",
            settings,
        ),
    )
    missing = dict(graph.notes)
    first_board = next(iter(boards.values()))[0]
    for entry in first_board["missing"]:
        missing.setdefault(entry["benchmark"], entry["reason"])
    paper = paper_numbers(spec.id)
    ids = [column.id for column in spec.columns]
    gained_ids = [column.id for column in spec.supplement]
    reasons = {
        column: missing[COLUMN_BENCHMARK[column]]
        for column in ids
        if column in COLUMN_BENCHMARK and COLUMN_BENCHMARK[column] in missing
    }
    reasons |= {column: missing[column] for column in gained_ids if column in missing}
    present = [c for c in ids if c != spec.average and c not in reasons]
    table = {
        "id": spec.id,
        "title": spec.title,
        "profile": profile.name,
        "columns": ids,
        "column_labels": {c.id: c.label for c in (*spec.columns, *spec.supplement)},
        "rows": [
            {
                "method": method,
                "label": label,
                "values": _values(cells[method], ids),
                "paper": paper.get(method),
            }
            for method, label in labels.items()
        ],
        "average_of": present,
        "missing": reasons,
        "at_chance": _at_chance(cells, labels, present),
        "baseline": spec.baseline,
        "significance": compare_with(cells, spec.baseline, ids, settings),
        "paper_setting": "Pythia 1.4B, HH-RLHF",
        "supplement": {
            "title": "What was gained, on held-out prompts",
            "columns": gained_ids,
            "rows": [
                {
                    "method": method,
                    "label": label,
                    "values": _values(gained.get(method, {}), gained_ids),
                }
                for method, label in labels.items()
            ],
            "significance": compare_with(gained, spec.baseline, gained_ids, settings),
        },
        "provenance": {
            **provenance,
            "chat_template": chat_template(store, graph),
            "evaluation": evaluation_facts(boards),
            "data": store.read_json(graph.pairs, "report.json"),
            "tokenization": {
                f"{method} seed {system.seed}": store.read_json(system.model, "training.json")[
                    "tokenization"
                ]
                for method, systems in graph.systems.items()
                for system in systems[:1]
            },
        },
    }
    return {**table, "notes": notes(table)}


def chat_template(store: Store, graph: Graph) -> str:
    """Name the chat template that was saved with the first model, by the hash of its text."""
    first = next(iter(graph.systems.values()))[0]
    folder = store.folder(first.model.address) / "model"
    file = folder / "chat_template.jinja"
    if file.is_file():
        template = file.read_text(encoding="utf-8")
    else:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = str(config.get("chat_template"))
    return f"sha256 {hashlib.sha256(template.encode()).hexdigest()[:12]}"


def evaluation_facts(boards: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Say how the leaderboard was run, and how many prompts were cut, over all systems."""
    first = next(iter(boards.values()))[0]
    truncated = {board["truncated_prompts"] for runs in boards.values() for board in runs}
    return {
        "max_length": first["max_length"],
        "truncated_prompts_per_model": sorted(truncated),
        "rows": {leaf: task["n"] for leaf, task in first["tasks"].items()},
        "skipped_rows": first["skipped"],
        "settings": first["settings"],
        "sentence_splitter": first["sentence_splitter"],
        "versions": first["versions"],
    }


def _values(
    cells: Mapping[str, Statistic], columns: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    return {c: cells[c].as_json() if c in cells else None for c in columns}


def _at_chance(
    cells: Cells, labels: Mapping[str, str], columns: Sequence[str]
) -> dict[str, list[str]]:
    """Column → the methods whose interval does not lie above chance."""
    found: dict[str, list[str]] = {}
    for column in columns:
        methods = [m for m in labels if cells[m][column].above_chance is False]
        if methods:
            found[column] = methods
    return found


def _merge(*parts: Cells) -> Cells:
    merged: Cells = {}
    for part in parts:
        for method, columns in part.items():
            merged.setdefault(method, {}).update(columns)
    return merged


def _accuracies(store: Store, system: System) -> dict[str, float]:
    scores = store.read_json(system.model, "scores.json")
    return {s["pair_id"]: float(s["chosen_reward"] > s["rejected_reward"]) for s in scores}


def _wins(store: Store, system: System) -> dict[str, float]:
    assert system.judged is not None
    judged = store.read_json(system.judged, "judged.json")
    return dict(zip(judged["pair_ids"], judged["scores"], strict=True))
