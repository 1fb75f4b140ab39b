"""The sentences around a table: headings and footnotes, from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def heading(table: Mapping[str, Any]) -> str:
    """Return the table's title with its profile, so that a tiny result is never unlabelled."""
    number = table["id"].removeprefix("table")
    return f"Table {number} ({table['profile']} profile). {table['title']}"


def paper_heading(table: Mapping[str, Any]) -> str:
    """Return the title of the paper's own numbers."""
    warning = (
        "; the tiny profile is a model organism, not to be compared value by value"
        if table["profile"] == "tiny"
        else ""
    )
    number = table["id"].removeprefix("table")
    return f"The paper's published Table {number} (Pythia 1.4B, HH-RLHF{warning})"


def footnotes(table: Mapping[str, Any]) -> list[str]:
    """Return the notes under the table, one sentence or two each."""
    labels: Mapping[str, str] = table["column_labels"]
    names = {row["method"]: row["label"] for row in table["rows"]}
    notes = [
        "Values are normalised scores, 0 = chance, 100 = perfect, mean over seeds, with 95 % "
        "intervals of a paired bootstrap over rows (stratified by task) and seeds; best value of "
        "a column in bold.",
        "Preference accuracy: share of held-out pairs whose chosen response has the higher "
        "implicit reward of the method itself (SFT: the higher mean log-probability)."
        + (
            " Win rate: sampled responses against the chosen ones, by the world's rules, ties ½."
            if "win_rate" not in table["missing"]
            else ""
        ),
        _significance(
            table, [*table["significance"], *table["supplement"]["significance"]], names, labels
        ),
        _chance(table, names, labels),
        _ceiling(table, labels),
    ]
    missing: Mapping[str, str] = table["missing"]
    if missing:
        listed = "; ".join(f"{labels[c]}: {reason}" for c, reason in missing.items())
        notes.append(f"Missing, not zero: {listed}.")
    averaged = table["average_of"]
    if len(averaged) < len(table["columns"]) - 1:
        notes.append(
            f"Avg is the mean of the {len(averaged)} columns that have rows, and cannot be "
            "compared with an average of all of them."
        )
    if table["profile"] == "tiny":
        notes.append(
            "Tiny profile: a GPT-NeoX trained from scratch on an embedded world whose skills were "
            "chosen for being learnable by it; it shows the trade-off, it does not measure the "
            "paper's models."
        )
    notes.append(_provenance(table["provenance"]))
    return [note for note in notes if note]


def _significance(
    table: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    labels: Mapping[str, str],
) -> str:
    if not entries:
        return ""
    baseline = names[table["baseline"]]
    alpha = table["provenance"]["statistics"]["alpha"]
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry["significant"]:
            sign = "▲" if entry["difference"] > 0 else "▼"
            found.setdefault(entry["column"], []).append(names[entry["method"]] + sign)
    columns = list(dict.fromkeys(entry["column"] for entry in entries))
    if not found:
        scope = ", ".join(labels[c] for c in columns)
        return f"No difference from {baseline} is significant (Holm, α = {alpha:g}): {scope}."
    listed = "; ".join(f"{labels[c]}: {', '.join(found[c])}" for c in columns if c in found)
    return (
        f"Significantly above ▲ or below ▼ {baseline} (paired bootstrap, p adjusted by Holm "
        f"within the column, α = {alpha:g}): {listed}."
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


def _ceiling(table: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    values = {
        column: [
            row["values"][column]["mean"] for row in table["rows"] if row["values"].get(column)
        ]
        for column in table["columns"]
    }
    full = [labels[column] for column, means in values.items() if means and min(means) >= 100.0]
    if not full:
        return ""
    return f"At the ceiling for every method, so it tells none apart: {', '.join(full)}."


def _provenance(provenance: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in provenance["versions"].items())
    evaluation = provenance["evaluation"]
    truncated = evaluation["truncated_prompts_per_model"]
    cut = str(truncated[0]) if len(truncated) == 1 else f"{truncated[0]} to {truncated[-1]}"
    commit = provenance["git_commit"] or "no git checkout"
    dirty = " with local changes" if provenance["git_dirty"] else ""
    data = provenance["data"]
    hardware = provenance["hardware"]
    return (
        f"Commit {commit[:12]}{dirty}; model {provenance['model']}; chat template "
        f"{provenance['chat_template']}; {data['train']['used']} training and "
        f"{data['test']['used']} held-out pairs; {cut} leaderboard prompts cut to "
        f"{evaluation['max_length']} tokens per model; sentences split by "
        f"{evaluation['sentence_splitter']}; {hardware}; {versions}."
    )
