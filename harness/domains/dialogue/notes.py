"""The sentences under Table 1 and the ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.render.columns import row_id
from harness.render.notes import (
    ceiling_note,
    chains_note,
    detectable_note,
    direction_note,
    generation_note,
    missing_note,
    provenance_note,
    significance_notes,
    tiny_note,
    tuning_note,
)


def notes(table: Mapping[str, Any]) -> list[str]:
    """Return the notes under a table, the most important first, one sentence or two each.

    Args:
        table: its JSON, but for the notes.
    """
    labels: Mapping[str, str] = table["column_labels"]
    names = {row_id(row): row["label"] for row in table["rows"]}
    found = [
        "Values are normalised scores, 0 = chance, 100 = perfect; best value of a column in bold.",
        tiny_note(
            table,
            "a GPT-NeoX trained from scratch on an embedded world whose skills were chosen for "
            "being learnable by it",
            "the trade-off",
        ),
        chains_note(table, "rows"),
        "Preference accuracy: share of held-out pairs whose chosen response has the higher "
        "implicit reward of the method itself"
        + (" (SFT: the higher mean log-probability)." if "sft" in names else ".")
        + (
            " Win rate: sampled responses against the chosen ones, by the world's rules, ties ½."
            if "win_rate" not in table["missing"]
            else ""
        ),
        direction_note(table),
        tuning_note(table),
        *significance_notes(table, [*table["significance"], *table["supplement"]["significance"]]),
        *_masks(table),
        missing_note(table),
        _average(table),
        ceiling_note(table),
        one_answer_note(table["provenance"]["evaluation"]["one_answer"]),
        _chance(table, names, labels),
        detectable_note(table, table["supplement"], labels=labels),
        generation_note(table["provenance"]["sampled"]),
        _provenance(table["provenance"]),
    ]
    return [note for note in found if note]


def _average(table: Mapping[str, Any]) -> str:
    averaged = table["average_of"]
    if len(averaged) == len(table["columns"]) - 1:
        return ""
    return (
        f"Avg is the mean of the {len(averaged)} columns that have rows, and cannot be compared "
        "with an average of all of them."
    )


def _masks(table: Mapping[str, Any]) -> list[str]:
    """Say what the columns about masks are; empty for a table without them."""
    shown = [
        column
        for column in table["supplement"]["columns"]
        if any(row["values"].get(column) for row in table["supplement"]["rows"])
    ]
    parts = []
    if "sparsity" in shown:
        parts.append("Zeros: share of response tokens whose mask is 0, measured without dropout.")
    if "auroc" in shown:
        parts.append(
            "AUROC: how well the mask ranks the tokens that decide, which double or halve the odds "
            "that an answer is good by the world's rules (50 = as a random mask)."
        )
    if any(column.startswith("lost_") for column in shown):
        parts.append(
            "Lost: preference accuracy that is lost when, after training, this share of the "
            "mask's values, the smallest, is set to 0 (nothing, where as many are 0 already)."
        )
    return parts


def one_answer_note(leaves: Mapping[str, int]) -> str:
    """Warn of leaf tasks whose right answers are all at one place.

    Args:
        leaves: leaf task → its rows.
    """
    if not leaves:
        return ""
    named = [f"{leaf.removeprefix('leaderboard_')} ({n} rows)" for leaf, n in leaves.items()]
    return (
        f"In {', '.join(named)} the right answer is at the same place in every row, so that a "
        "model which always chooses this place scores 100 there."
    )


def _chance(table: Mapping[str, Any], names: Mapping[str, str], labels: Mapping[str, str]) -> str:
    at_chance: Mapping[str, Sequence[str]] = table["at_chance"]
    if not at_chance:
        return "Every method is above chance in every column (95 % interval before flooring)."
    parts = []
    for column, methods in at_chance.items():
        who = "all methods" if len(methods) == len(names) else ", ".join(names[m] for m in methods)
        parts.append(f"{labels[column]} ({who})")
    return f"Not above chance (95 % interval before flooring at 0): {'; '.join(parts)}."


def _provenance(provenance: Mapping[str, Any]) -> str:
    evaluation, data = provenance["evaluation"], provenance["data"]
    truncated = evaluation["truncated_prompts_per_model"]
    cut = str(truncated[0]) if len(truncated) == 1 else f"{truncated[0]} to {truncated[-1]}"
    return provenance_note(
        provenance,
        f"chat template {provenance['chat_template']}",
        f"{data['train']['used']} training and {data['test']['used']} held-out pairs",
        f"{cut} leaderboard prompts cut to {evaluation['max_length']} tokens per model",
        f"sentences split by {evaluation['sentence_splitter']}",
    )
