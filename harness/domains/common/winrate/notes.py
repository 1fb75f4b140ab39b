"""The sentences under a table of win rates."""

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
)

_JUDGES = {
    "rules": "the embedded world's rules",
    "reward": "a reward model",
    "instruct": "an instruct model on this machine",
    "endpoint": "a model at an endpoint",
}


def notes(table: Mapping[str, Any], tiny: str) -> list[str]:
    """Return the notes under a table of win rates, the most important first.

    Args:
        table: its JSON, but for the notes.
        tiny: what is trained in the tiny profile.
    """
    found = [
        "Win rates: sampled responses to held-out prompts against the data's chosen responses, and "
        "against DPO's to the same prompts; both orders are asked, a verdict that changes with the "
        "order is a tie, and a tie counts ½ (50 = no difference; DPO ties with itself).",
        "LC, length-controlled: what a logistic regression on the difference in characters "
        "predicts for equal lengths (docs/judges.md).",
        tiny_note(table, tiny, "whether a preference method wins what it was trained for"),
        _judge_note(table),
        _order_note(table),
        _failed_note(table),
        chains_note(table, "prompts"),
        direction_note(table),
        missing_note(table),
        _missing_cells(table),
        *significance_notes(table, table["significance"]),
        ceiling_note(table),
        detectable_note(table, labels=table["column_labels"]),
        generation_note(table["provenance"]["sampled"]),
        provenance_note(
            table["provenance"],
            *(
                f"{table['provenance']['data'][split]['used']} {name} pairs"
                for split, name in (("train", "training"), ("test", "held-out"))
            ),
        ),
    ]
    return [note for note in found if note]


def _kappa(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "not defined"
    low, high = value["ci95"]
    return f"{value['mean']:.2f} [{low:.2f}, {high:.2f}]"


def _judge_note(table: Mapping[str, Any]) -> str:
    judge = table["judge"]
    name = _JUDGES[judge["kind"]] + (f", {judge['model']}" if judge["model"] else "")
    if judge["trained"]:
        name = _trained(judge["trained"])
    n = (judge["kappa"] or {}).get("n", judge["labelled"]["comparisons"])
    text = (
        f"Judge: {name}. Its agreement with the data's own labels on {n} held-out pairs of each "
        f"chain, Cohen's κ: {_kappa(judge['kappa'])}"
    )
    if "kappa_rules" in judge:
        text += f"; with the world's rules: {_kappa(judge['kappa_rules'])}"
    return text + "."


def _trained(reports: Sequence[Mapping[str, Any]]) -> str:
    """Say what a trained judge learned from, and how it orders pairs that it has not seen."""
    pairs, cut, long, held_out = (
        sum(report[name] for report in reports)
        for name in ("pairs", "truncated", "too_long", "held_out")
    )
    right = [100 * report["accuracy"] for report in reports if report["accuracy"] is not None]
    text = f"a reward model trained on each chain's pairs ({pairs:,} in all"
    if cut:
        text += f", {cut:,} of them without the beginning of the prompt to fit its context"
    if long:
        text += f", {long:,} left out because they are longer than it"
    if right:
        own = f"{right[0]:.1f}" if len(right) == 1 else f"{min(right):.1f} to {max(right):.1f}"
        text += f"; it orders {own} % of {held_out:,} held-out pairs as the data does"
    return text + ")"


def _total(table: Mapping[str, Any], name: str) -> int:
    verdicts = table["judge"]["verdicts"].values()
    own = sum(counts[name] for rows in verdicts for counts in rows.values())
    return int(own + table["judge"]["labelled"][name])


def _order_note(table: Mapping[str, Any]) -> str:
    decided, all = _total(table, "order_decided"), _total(table, "comparisons")
    return (
        f"Position bias: in {decided:,} of {all:,} comparisons the judge preferred the same "
        "position in both orders, which counts as a tie."
    )


def _failed_note(table: Mapping[str, Any]) -> str:
    failed = _total(table, "failed")
    if not failed:
        return ""
    return (
        f"No usable verdict (a refusal, another form than asked for, or no number) in {failed:,} "
        f"of {_total(table, 'comparisons'):,} comparisons, which are left out."
    )


def _missing_cells(table: Mapping[str, Any]) -> str:
    names = {row_id(row): row["label"] for row in table["rows"]}
    listed = ", ".join(
        f"{names[one['row']]} in {table['column_labels'][one['column']]}"
        for one in table["missing_cells"]
    )
    return f"Missing, not zero, because a chain has no usable verdict: {listed}." if listed else ""
