"""The sentences under the sentiment figures' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.render.columns import row_id
from harness.render.marks import Series
from harness.render.notes import (
    chains_note,
    detectable_note,
    direction_note,
    generation_note,
    provenance_note,
    significance_note,
    significance_notes,
    tiny_note,
    tuning_note,
)


def frontier_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under Figure 2's table, the most important first.

    Args:
        result: its JSON, but for the notes.
    """
    names = {row_id(row): row["label"] for row in result["rows"]}
    largest = max(result["kl_limit"], *(m["largest_kl"] for m in result["methods"]))
    short = [
        f"{m['label']} {m['largest_kl']:.1f}"
        for m in result["methods"]
        if m["method"] != "sft" and m["largest_kl"] < min(10.0, largest)
    ]
    found = [
        f"Reward in percent by {result['reward_model']}, of one sampled response per held-out "
        "prompt; KL(π‖π_ref) per response in nats. Reward at k nats: the Pareto frontier over β "
        "(and γ) and training steps, interpolated between its points and held constant beyond the "
        "last; hypervolume: mean gain over SFT's reward along the frontier from 0 to "
        f"{result['kl_limit']:g} nats; both of each chain's own frontier. A frontier picks the "
        "best of its noisy points, so its values are a little high for every method. Best value "
        "of a column in bold.",
        _tiny(result),
        chains_note(result, "prompts"),
        _missing(result),
        f"Points do not reach {result['kl_limit']:g} nats (largest KL): {', '.join(short)}."
        if short
        else "",
        direction_note(result),
        tuning_note(result),
        *significance_notes(result, result["significance"]),
        detectable_note(result, labels=result["column_labels"]),
        _above(result, names),
        _kl_by_beta(result),
        generation_note(result["sampled"]),
        _made(result),
    ]
    return [note for note in found if note]


def _missing(result: Mapping[str, Any]) -> str:
    missing = result["missing_rewards"]
    return f"Responses without a finite reward, left out: {missing}." if missing else ""


def _tiny(result: Mapping[str, Any]) -> str:
    return tiny_note(result, "a GPT-2 trained from scratch on the spot", "how the methods differ")


def _made(result: Mapping[str, Any]) -> str:
    """Return the last note of every result: where its values are from."""
    made = result["provenance"]
    return provenance_note(made, *_data_facts(made["data"]))


def _data_facts(data: Mapping[str, Any]) -> list[str]:
    """Return what the provenance says of the pairs."""
    facts = [f"{data['train']['used']} training and {data['test']['used']} held-out pairs"]
    for split in ("train", "test"):
        skipped = data[split].get("skipped") or {}
        facts += [f"{split}: {count} {reason}" for reason, count in sorted(skipped.items())]
    if "classifier" in data:
        found = data["classifier"]
        facts.append(
            f"reward trained on {found['train']} labelled texts; of {found['test']} held-out "
            f"ones it names {100 * found['accuracy']:.1f} % right (AUROC "
            f"{100 * found['auroc']:.1f}), VADER {100 * found['vader_accuracy']:.1f} %"
        )
    return facts


def _above(result: Mapping[str, Any], names: Mapping[str, str]) -> str:
    tested = {names[row]: entries for row, entries in result["above_start"].items() if entries}
    if not tested or all(e["p_holm"] is None for entries in tested.values() for e in entries):
        return ""
    above = {name: sum(e["significant"] for e in entries) for name, entries in tested.items()}
    everywhere = [name for name, count in above.items() if count == len(tested[name])]
    start = "Reward significantly above SFT's at the last step (Holm over a method's settings)"
    if len(everywhere) == len(tested):
        return f"{start}: every method at each of its settings."
    parts = [f"{', '.join(everywhere)} at every setting"] if everywhere else []
    parts += [
        f"{name} at {count} of {len(tested[name])}"
        for name, count in above.items()
        if 0 < count < len(tested[name])
    ]
    found = f"{sum(map(bool, above.values()))} of {len(tested)} methods"
    listed = f" ({'; '.join(parts)})" if parts else ""
    return f"{start}: {found}{listed}."


def _kl_by_beta(result: Mapping[str, Any]) -> str:
    parts = []
    for method in result["methods"]:
        final = [f for f in method["final"] if f["gamma"] is None]
        if len(final) > 1:
            listed = ", ".join(f"{f['mean']:.1f}" for f in sorted(final, key=lambda f: f["beta"]))
            parts.append(f"{method['label']} {listed}")
    return (
        f"KL at the last step from the smallest to the largest β: {'; '.join(parts)}."
        if parts
        else ""
    )


def noise_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under the table of label noise, the most important first.

    Args:
        result: its JSON, but for the notes.
    """
    simpo = result["simpo"]
    supplement = result.get("supplement", {})
    shares = _shares(result)
    counts = ", ".join(f"{one['pairs']} of {one['of']}" for one in result["flipped"])
    found = [
        f"Reward in percent by {result['reward_model']} and KL(π‖π_ref) in nats, of one sampled "
        "response per held-out prompt at the end of training; best value of a column in bold. "
        f"β = {result['beta']:g} (SimPO: β = {simpo['beta']:g}, γ = {simpo['gamma']:g}).",
        "Columns: the share of flipped training pairs, whose chosen and rejected response are "
        "exchanged. They are drawn by the chain's seed, those of a smaller share among those of a "
        "larger one"
        + (f" (first chain: {counts})" if counts else "")
        + ", and held-out pairs and prompts are not flipped. SFT sees no pairs.",
        _tiny(result),
        chains_note(result, "prompts"),
        _missing(result),
        direction_note(result),
        significance_note(result, result["significance"], shares),
        significance_note({**result, **supplement}, supplement.get("significance", []), shares),
        detectable_note(result, labels=result["column_labels"]),
        generation_note(result["sampled"]),
        _made(result),
    ]
    return [note for note in found if note]


def _shares(result: Mapping[str, Any]) -> Series:
    """Return the columns that differ only in the share of flipped pairs: "Reward, 10 %"."""
    members = {}
    for column, label in result["column_labels"].items():
        name, separated, share = label.rpartition(", ")
        if separated and " to " not in share:
            members[column] = (name, share)
    return Series("share", members)


def transfer_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under the table of transferred masks, the most important first.

    Args:
        result: its JSON, but for the notes.
    """
    sources = result["sources"]
    found = [
        f"Reward in percent by {result['reward_model']} and KL(π‖π_ref) in nats, of one sampled "
        "response per held-out prompt at the end of training; reward at k nats: along the training "
        f"steps of the runs with β = {result['beta']:g}, as in Figure 2. Best value of a column in "
        "bold.",
        "Its own: learned with the policy; frozen: the same after training, given from the start. "
        f"Same architecture: learned by {sources['same']}; other architecture: by "
        f"{sources['other']}; on the same pairs, then given to the trained model as constants. "
        "Shuffled: the values of each response in another order. TDPO v1 is SparsePO with masks "
        "that are 1 everywhere.",
        "Oracle mask: 1 on the tokens of words that decide the reward, 0 on all others. AUROC: how "
        "well the reward mask finds these tokens in held-out pairs."
        if result["decisive_tokens_known"]
        else "The words that decide these pairs are not known: no oracle mask, no AUROC.",
        _tiny(result),
        chains_note(result, "prompts"),
        _missing(result),
        direction_note(result),
        *significance_notes(result, result["significance"]),
        detectable_note(result, labels=result["column_labels"]),
        generation_note(result["sampled"]),
        _made(result),
    ]
    return [note for note in found if note]


def on_policy_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under the table of on-policy training, the most important first.

    Args:
        result: its JSON, but for the notes.
    """
    labels = {row_id(row): row["label"] for row in result["rows"]}
    against = {
        baseline: [entry for entry in result["significance"] if entry["baseline"] == baseline]
        for baseline in (result["baseline"], result["reference"])
    }
    tested = any(row["values"]["reward"]["seeds"] > 1 for row in result["rows"])
    found = [
        f"Reward in percent by {result['reward_model']} and KL(π‖π_ref) in nats, of one sampled "
        "response per held-out prompt at the end of training; self-BLEU over several samples of a "
        "prompt, lower for more diverse ones. Rows with a β are trained on given pairs, the others "
        "on samples of their policy, with as many steps and the same learning rate. Best value of "
        "a column in bold.",
        *(_tested_notes(result, against, labels) if tested else []),
        _tiny(result),
        chains_note(result, "prompts"),
        _missing(result),
        "Over DPO's frontier: reward minus that of DPO's frontier over β and training steps at the "
        "same KL, as in Figure 2. The frontier picks the best of its noisy points, which is a "
        "little to its advantage."
        if result["over_frontier"]
        else "",
        significance_note(result, against[result["baseline"]], _betas(labels)),
        direction_note(result),
        detectable_note(result, labels=result["column_labels"]),
        f"Prompts without a self-BLEU in some row, left out: {result['missing_self_bleu']}."
        if result["missing_self_bleu"]
        else "",
        generation_note(result["sampled"]),
        _made(result),
    ]
    return [note for note in found if note]


def _frontier_end(result: Mapping[str, Any]) -> float | None:
    """Return the KL of the last point of DPO's frontier; None without DPO."""
    for one in result["frontiers"]:
        if one["method"] == "dpo":
            return float(one["points"][one["frontier"][-1]]["kl"]["mean"])
    return None


def _betas(labels: Mapping[str, str]) -> Series:
    """Return the rows that differ only in β: "DPO, β = 0.8"."""
    parted = {row: label.partition(", β = ") for row, label in labels.items()}
    return Series("β", {row: (name, beta) for row, (name, _, beta) in parted.items() if beta})


def _tested_notes(
    result: Mapping[str, Any],
    against: Mapping[str, Sequence[Mapping[str, Any]]],
    labels: Mapping[str, str],
) -> list[str]:
    """Return what the tests of on-policy rows say."""
    on_policy = [one["id"] for one in result["end"] if one["on_policy"]]
    raised = {
        entry["row"]: entry
        for entry in against[result["reference"]]
        if entry["column"] == "reward" and entry["row"] in on_policy
    }
    notes = [
        _signs(
            f"Reward against {labels.get(result['reference'], '')}'s (Holm within the column)",
            {labels[row]: entry for row, entry in raised.items()},
        ),
        _signs(
            "Reward against DPO's frontier at the same KL, held constant beyond its last point at "
            f"{_frontier_end(result) or 0.0:.1f} nats (Holm over these rows)",
            {labels[row]: entry for row, entry in result["over_frontier"].items()},
        ),
        _diversity(result["diversity"], labels),
    ]
    return [note for note in notes if note]


def _signs(start: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say of which rows a difference is significant, and in which direction."""
    groups: dict[str, list[str]] = {}
    for name, entry in entries.items():
        word = "above" if entry["difference"] > 0 else "below"
        groups.setdefault(word if entry["significant"] else "undecided", []).append(name)
    kinds = {
        "above": "Significantly above",
        "below": "Significantly below",
        "undecided": "Not significantly different",
    }
    parts = [
        f"{text}: {', '.join(groups[kind])}." for kind, text in kinds.items() if kind in groups
    ]
    return " ".join([f"{start}.", *parts]) if parts else ""


def _diversity(tested: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """Compare the diversity of f-DPG's divergences with what its article says."""
    if not tested:
        return ""
    agree = [one for one in tested if one["difference"] > 0]
    listed = ", ".join(
        f"{_divergence(labels[one['more_diverse']])} before "
        f"{_divergence(labels[one['less_diverse']])} {one['difference']:.1f} "
        f"[{one['ci95'][0]:.1f}, {one['ci95'][1]:.1f}]{'*' if one['significant'] else ''}"
        for one in tested
    )
    return (
        "f-DPG's article (arXiv 2302.08215) finds samples of KL(p‖π) most diverse, of reverse KL "
        "least, of the other two between. Differences of self-BLEU, positive where that holds (* "
        f"significant, Holm over these): {listed}; {len(agree)} of {len(tested)} are positive. The "
        "divergences need not end at the same KL."
    )


def _divergence(label: str) -> str:
    return label.partition("(")[2].rstrip(")") or label


def dynamics_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under Figures 3 and 7, the most important first.

    Args:
        result: their JSON, but for the notes; with Figure 3 it has a table.
    """
    ranked = "ranking" in result
    found = [
        ("The picture: sparsity" if ranked else "Sparsity")
        + " of the masks, measured without dropout, and mean token KL(π_ref‖π) as the trainer "
        f"logged them over {result['response']} responses; lines are means over chains, bands "
        "reach from the smallest to the largest chain.",
        _tiny(result),
        *(_ranking_notes(result) if ranked else []),
        _made(result),
    ]
    return [note for note in found if note]


def _ranking_notes(result: Mapping[str, Any]) -> list[str]:
    share = 100 * result["deciding_tokens"] / result["tokens"]
    betas = {
        entry["name"]: (entry["label"].rpartition(", β = ")[0], f"{entry['beta']:g}")
        for entry in result["ranking"]
        if entry["beta"] is not None
    }
    return [
        "The table, over chosen and rejected responses: how well a token's mask value after "
        "training tells that the token decides the preference, that is, that the reward by VADER's "
        "lexicon changes without its word. "
        f"{result['deciding_tokens']} of {result['tokens']} response tokens of held-out pairs do "
        f"({share:.1f} %, which is the average precision of chance). A mask sees only what stands "
        "before a token; the reference's expectation is its own probability that a deciding word "
        "comes next, as far as such a mask can go.",
        chains_note(result, "responses"),
        significance_note(result, result["significance"], Series("β", betas)),
    ]


def map_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes under Figures 1, 4 and 9.

    Args:
        result: their JSON, but for the notes.
    """
    sides = " and ".join(result["responses"])
    found = [
        f"The {sides} response of one held-out pair, in the first chain; below a dotted line the "
        "mask is exactly 0. Each row has its own scale.",
        _tiny(result),
        _made(result),
    ]
    return [note for note in found if note]
