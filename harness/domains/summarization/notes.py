"""The sentences under Figure 5's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.profiles import WORLD
from harness.render.marks import Series
from harness.render.notes import (
    chains_note,
    generation_note,
    provenance_note,
    significance_note,
    tiny_note,
)


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under Figure 5, the most important first, one sentence or two each.

    Args:
        result: its JSON, but for the notes.
    """
    settings = result["provenance"]["settings"]
    sampling, real = settings["sampling"], settings["data"]["tldr"] != WORLD
    blocks = [result, *result["parts"]]
    drawn = [block for block in blocks if block.get("metric") in result["panels"]]
    others = [block for block in blocks if block.get("metric") in result["beyond"]]
    equal = [block for block in blocks if block.get("metric") == "matched"]
    found = [
        f"Means over posts, {sampling['samples']} summaries of each at each temperature (one at "
        f"0), nucleus {sampling['top_p']:g}, in percent but for length; best value of a column in "
        "bold. "
        "Self-BLEU is 100 where all summaries of a post are the same; neither direction is better.",
        tiny_note(
            result,
            "a GPT-NeoX trained from scratch on "
            + ("the training pairs alone" if real else "an embedded world of posts"),
            "how the methods differ",
        ),
        chains_note(result, "posts"),
        _missing(result),
        _tests(result, drawn, "the panels"),
        _tests(result, equal, "the differences at equal self-BLEU"),
        _equal(equal),
        _tests(result, others, "the further quantities"),
        _detectable(result, drawn),
        _nli(result),
        _correlations(result),
        generation_note(result["sampled"]),
        _data(result["provenance"]),
        _signatures(result),
        provenance_note(result["provenance"]),
    ]
    return [note for note in dict.fromkeys(found) if note]


def _tests(result: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]], family: str) -> str:
    """Say which rows differ from the baseline, with Holm's adjustment over several blocks."""
    entries = [entry for block in blocks for entry in block["significance"]]
    metrics = {metric["id"]: metric["label"] for metric in result["metrics"]}
    columns = {
        f"{metric}_{temperature}": (label, temperature)
        for metric, label in metrics.items()
        for temperature in result["temperatures"]
    }
    return significance_note(
        result,
        entries,
        Series("temperature", columns),
        f"over all {len(entries)} comparisons of {family}",
    )


def _equal(equal: Sequence[Mapping[str, Any]]) -> str:
    if not equal:
        return ""
    return (
        "At equal self-BLEU: in each chain a method's points are joined by lines in the order of "
        "their self-BLEU, and compared with DPO's at DPO's own points that the line reaches."
    )


def _detectable(result: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for block in blocks:
        effects = list(block["detectable"].values())
        if effects:
            title = block.get("first_title") or block["title"]
            parts.append(f"{title} {min(effects):.2f} to {max(effects):.2f}")
    return (
        "Smallest true difference from DPO that would be marked with a probability of 80 %, over "
        f"the temperatures: {'; '.join(parts)}."
        if parts
        else ""
    )


def _correlations(result: Mapping[str, Any]) -> str:
    found = result["correlations"]
    if not found:
        return ""
    labels = {metric["id"]: metric["label"] for metric in result["metrics"]}
    parts = []
    for name, truths in found.items():
        listed = ", ".join(
            f"{truth} {cell['mean']:.2f} [{cell['ci95'][0]:.2f}, {cell['ci95'][1]:.2f}]"
            for truth, cell in truths.items()
        )
        parts.append(f"{labels.get(name, name)}: {listed}")
    return (
        "Spearman's ρ of each metric with the truth, over posts, temperatures and methods of a "
        f"chain (mean over samples), with its interval over chains: {'; '.join(parts)}."
    )


def _nli(result: Mapping[str, Any]) -> str:
    nli = result["nli"]
    if nli is None:
        return ""
    listed = ", ".join(f"{label} {value:.1f} %" for label, value in nli["recall"].items())
    return (
        "EDNA and document entailment use a tiny NLI model trained on the world's statements; its "
        f"accuracy on {nli['rows']['held_out']} held-out ones is {nli['accuracy']:.1f} % (recall: "
        f"{listed})."
    )


def _missing(result: Mapping[str, Any]) -> str:
    absent = [f"{one['label']}: {one['reason']}" for one in result["missing"].values()]
    partly = [
        f"{metric['label']}: {count} {reason}"
        for metric in result["metrics"]
        for reason, count in metric["missing"].items()
    ]
    texts = []
    if absent:
        texts.append(f"Missing, not zero: {'; '.join(absent)}.")
    if partly:
        texts.append(f"Single values that are missing and left out: {'; '.join(partly)}.")
    texts += [note for metric in result["metrics"] for note in metric["notes"]]
    return " ".join(texts)


def _data(provenance: Mapping[str, Any]) -> str:
    data, posts = provenance["data"], provenance["prompts"]
    parts = []
    for split, word in (("train", "training"), ("test", "held-out")):
        dropped: dict[str, int] = {}
        for subset in data[split]["subsets"].values():
            for reason, count in subset["skipped"].items():
                dropped[reason] = dropped.get(reason, 0) + count
        parts.append(f"{data[split]['used']} {word} pairs (dropped: {_listed(dropped)})")
    kept = f"{posts['used']} of {posts['kept']} posts"
    parts.append(f"{kept} summarized (dropped: {_listed(posts['skipped'])})")
    return f"{'; '.join(parts)}."


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"


def _signatures(result: Mapping[str, Any]) -> str:
    own = [f"{m['label']} {m['signature']}" for m in result["metrics"] if m["signature"]]
    return f"Signatures: {'; '.join(own)}."
