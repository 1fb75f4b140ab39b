"""The sentences around a table that every domain shares, from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.render.columns import (
    BETTER,
    DIFFERENT,
    WORSE,
    higher_is_better,
    mark,
    most_chains,
    row_id,
    saturated,
)
from harness.render.fit import LongNote
from harness.render.marks import NO_SERIES, Series, counted_marks, listed_marks


def heading(table: Mapping[str, Any]) -> str:
    """Return the table's title with its profile, which labels every tiny result as such."""
    id = table["id"]
    name = id.capitalize()
    for kind in ("table", "figure"):
        if id.startswith(kind):
            name = f"{kind.capitalize()} {id.removeprefix(kind)}"
    return f"{name} ({table['profile']} profile). {table['title']}"


def paper_heading(table: Mapping[str, Any]) -> str:
    """Return the title of the paper's own numbers."""
    warning = (
        "; the tiny profile is a model organism, not to be compared value by value"
        if table["profile"] == "tiny"
        else ""
    )
    number = table["id"].removeprefix("table")
    return f"The paper's published Table {number} ({table['paper_setting']}{warning})"


def significance_note(
    table: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    series: Series = NO_SERIES,
    family: str = "within the column",
) -> str:
    """Say which rows differ significantly from the baseline; empty without comparisons.

    Args:
        table: a table's JSON.
        entries: comparisons of one baseline, as `domains.common.cells.compare_rows` makes them.
        series: rows or columns that differ only in a setting, such as β.
        family: over which comparisons Holm's adjustment is made.
    """
    if not entries:
        return ""
    labels: Mapping[str, str] = table["column_labels"]
    names = {row_id(row): row["label"] for row in table["rows"]}
    baseline = names[entries[0]["baseline"]]
    alpha = table["provenance"]["statistics"]["alpha"]
    if all(entry["p_holm"] is None for entry in entries):
        return f"One chain has no test: no difference from {baseline} is marked."
    marks = {mark(table, entry) for entry in entries} - {""}
    if not marks:
        columns = dict.fromkeys(
            series.members.get(entry["column"], (labels[entry["column"]],))[0] for entry in entries
        )
        scope = ", ".join(columns)
        return f"No difference from {baseline} is significant (Holm, α = {alpha:g}): {scope}."
    meanings = [f"better {BETTER} or worse {WORSE} than"] if marks & {BETTER, WORSE} else []
    meanings += [f"different {DIFFERENT} from"] if DIFFERENT in marks else []
    start = (
        f"Significantly {' or '.join(meanings)} {baseline} (moderated t of differences paired by "
        f"chain, p adjusted by Holm {family}, α = {alpha:g}): "
    )
    return LongNote(
        f"{start}{listed_marks(table, entries, series)}.",
        f"{start}{counted_marks(table, entries)}.",
    )


def significance_notes(
    table: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], series: Series = NO_SERIES
) -> list[str]:
    """Return a note for each baseline that rows are compared with; see `significance_note`."""
    return [
        significance_note(
            table, [entry for entry in entries if entry["baseline"] == baseline], series
        )
        for baseline in dict.fromkeys(entry["baseline"] for entry in entries)
    ]


def chosen_text(search: Mapping[str, Any]) -> str:
    """Return a chosen trial with its settings, such as "trial 3 (beta 0.2)".

    Args:
        search: the tuning of one row in one chain, as a result's JSON has it.
    """
    trial = search["trials"][search["chosen"]]
    values = (
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial["settings"].items()
    )
    return f"trial {search['chosen']} ({', '.join(values)})"


def tuning_note(table: Mapping[str, Any]) -> str:
    """Say how the tuned rows' settings were chosen; empty without tuned rows."""
    tuning = table.get("tuning")
    if not tuning:
        return ""
    budget = tuning["kl_budget"]
    within = "" if budget is None else f" among those with a KL of at most {budget:g} nats"
    count = tuning["trials"]
    return (
        f"Tuned rows: in each chain the best of {count} {'trial' if count == 1 else 'trials'} by "
        f"{tuning['criterion'].replace('_', ' ')} on validation data{within}; trial 0 has the "
        "published settings, and every method has as many trials (docs/tuning.md). Tuned rows are "
        "compared with each other, and best values are those of their own table."
    )


def chains_note(table: Mapping[str, Any], items: str) -> str:
    """Say what the intervals contain.

    Args:
        table: a result's JSON.
        items: what a chain is scored on, in the plural.
    """
    chains = most_chains(table["rows"]) or 0
    if chains < 2:
        return f"95 % intervals of a bootstrap over {items}: one chain, whose luck is not in them."
    single = [
        row["label"]
        for row in table["rows"]
        if any(cell is not None and cell["seeds"] == 1 for cell in row["values"].values())
    ]
    alone = (
        f" {', '.join(single)}: a single model, whose own variation is in no interval."
        if single
        else ""
    )
    return (
        f"Means over {chains} chains with 95 % intervals for the mean of all such chains.{alone} "
        "The bytes repeat on this machine; on another one the chains are others, and only the "
        "intervals hold (docs/reproducibility.md)."
    )


def detectable_note(*parts: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Say how small a difference from the baseline each column would show; empty without tests.

    Args:
        parts: blocks of a table with `detectable`.
        labels: column → label.
    """
    listed = ", ".join(
        f"{labels[column]} {effect:.1f}"
        for part in parts
        for column, effect in part.get("detectable", {}).items()
    )
    return (
        "Smallest difference from the baseline that would be marked with a probability of 80 % "
        f"(median row): {listed}."
        if listed
        else ""
    )


def direction_note(table: Mapping[str, Any]) -> str:
    """Say in which columns lower values, or neither, are better; empty if there are none."""
    labels: Mapping[str, str] = table["column_labels"]
    lower = [label for c, label in labels.items() if higher_is_better(table, c) is False]
    neither = [label for c, label in labels.items() if higher_is_better(table, c) is None]
    parts = [f"Lower is better (↓): {', '.join(lower)}."] if lower else []
    parts += [f"Neither direction is better: {', '.join(neither)}."] if neither else []
    return " ".join(parts)


def tiny_note(table: Mapping[str, Any], model: str, shows: str) -> str:
    """Say what a result of the tiny profile is worth; empty for other profiles.

    Args:
        table: a result's JSON.
        model: what is trained in that profile.
        shows: what its result shows.
    """
    if table["profile"] != "tiny":
        return ""
    return f"Tiny profile: {model}; it shows {shows} and does not measure the paper's models."


def ceiling_note(table: Mapping[str, Any]) -> str:
    """Name the columns in which every row has the best possible value; empty if none has."""
    full = [
        table["column_labels"][column]
        for column in table["columns"]
        if saturated(
            table,
            column,
            [row["values"][column]["mean"] for row in table["rows"] if row["values"].get(column)],
        )
    ]
    return f"Saturated, every row has the best possible value: {', '.join(full)}." if full else ""


def missing_note(table: Mapping[str, Any]) -> str:
    """Say which columns have no rows, and why; empty if all have."""
    listed = "; ".join(
        f"{table['column_labels'][column]}: {reason}" for column, reason in table["missing"].items()
    )
    return f"Missing, not zero: {listed}." if listed else ""


def generation_note(sampled: Mapping[str, Mapping[str, int]]) -> str:
    """Say how many responses were sampled, and how many of them are not whole.

    Args:
        sampled: what was answered, such as "held-out prompts" → `responses`, `unfinished` and
            `truncated_prompts`.
    """
    parts = [
        f"{one['responses']:,} to {what} ({one['unfinished']:,} reached the longest length without "
        f"an end, {one['truncated_prompts']:,} prompts lost their beginning to fit the context)"
        for what, one in sampled.items()
        if one.get("responses")
    ]
    return f"Sampled responses: {'; '.join(parts)}." if parts else ""


def provenance_note(provenance: Mapping[str, Any], *facts: str) -> str:
    """Return one sentence on how the numbers were made.

    Args:
        provenance: as in a result's JSON.
        facts: the domain's own, between model and hardware.
    """
    versions = ", ".join(f"{name} {v}" for name, v in provenance["versions"].items())
    commit = provenance["git_commit"] or "no git checkout"
    dirty = " with local changes" if provenance["git_dirty"] else ""
    parts = [
        f"Commit {commit[:12]}{dirty}",
        f"model {provenance['model']}",
        *facts,
        provenance["hardware"],
        versions,
    ]
    return "; ".join(parts) + "."
