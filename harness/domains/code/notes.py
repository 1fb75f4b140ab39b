"""The sentences under Table 2."""

from __future__ import annotations

from collections.abc import Mapping
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

_OUTCOMES = {
    "timeout": "out of time",
    "memory": "out of memory",
    "refused": "not run to the end",
    "unsupported": "undecided",
}


def notes(table: Mapping[str, Any]) -> list[str]:
    """Return the notes under Table 2, the most important first, one sentence or two each.

    Args:
        table: its JSON, but for the notes.
    """
    settings = table["provenance"]["settings"]["sampling"]
    found = [
        f"pass@k in %, the unbiased estimate from {settings['test_samples']} samples of each "
        f"problem (temperature {settings['temperature']:g}, top-p {settings['top_p']:g}); best "
        "value of a column in bold.",
        _tiny(table),
        chains_note(table, "problems"),
        missing_note(table),
        direction_note(table),
        tuning_note(table),
        *significance_notes(table, table["significance"]),
        ceiling_note(table),
        _outcomes(table["provenance"]["evaluation"]),
        detectable_note(table, labels=table["column_labels"]),
        _tuned(table),
        generation_note(table["provenance"]["sampled"]),
        _provenance(table["provenance"]),
    ]
    return [note for note in found if note]


def figure_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under Figures 6 and 8.

    Args:
        result: their JSON, but for the notes.
    """
    found = [
        "Sparsity of the masks, measured without dropout, and mean token KL(π_ref‖π) as the "
        f"trainer logged them over {result['response']} responses; one line for each β that was "
        "tried for Table 2, in the first chain.",
        _tiny(result),
        provenance_note(result["provenance"]),
    ]
    return [note for note in found if note]


def _tiny(result: Mapping[str, Any]) -> str:
    return tiny_note(
        result,
        "a GPTBigCode trained from scratch on an embedded world of small programs, a part of "
        "which is wrong on purpose",
        "what preference optimization does",
    )


def _tuned(table: Mapping[str, Any]) -> str:
    if not table["tuned"]:
        return ""
    names = {row_id(row): row["label"] for row in table["rows"]}
    chosen = {
        names[row]: [f"{tuned['hyper_parameters']['beta']:g}" for tuned in chains.values()]
        for row, chains in table["tuned"].items()
    }
    listed = "; ".join(f"{name} {', '.join(betas)}" for name, betas in chosen.items())
    settings = table["provenance"]["settings"]["tuning"]
    k, problems = settings["samples"], settings["problems"]
    return (
        f"β chosen in each chain by pass@{k} of {k} samples of {problems} HumanEval problems, "
        f"which are among those of the table, as in the paper: {listed}."
    )


def _outcomes(evaluation: Mapping[str, Any]) -> str:
    totals: dict[str, int] = {}
    for benchmarks in evaluation["verdicts"].values():
        for verdicts in benchmarks.values():
            for verdict, count in verdicts.items():
                totals[verdict] = totals.get(verdict, 0) + count
    parts = [f"{totals[word]:,} {text}" for word, text in _OUTCOMES.items() if word in totals]
    listed = ", ".join(parts) if parts else "none out of time or memory"
    return (
        f"Of {sum(totals.values()):,} programs {totals.get('passed', 0):,} passed; {listed}; "
        f"{evaluation['suspected_forgeries']} suspected forgeries. Isolation: "
        f"{', '.join(evaluation['tiers'])}."
    )


def _provenance(provenance: Mapping[str, Any]) -> str:
    facts = []
    for data in list(provenance["data"].values())[:1]:
        train, validation = data["train"], data["validation"]
        facts.append(
            f"preference pairs of {train['kept']} of {train['prompts']} training and "
            f"{validation['kept']} of {validation['prompts']} validation problems"
        )
    return provenance_note(provenance, *facts)
