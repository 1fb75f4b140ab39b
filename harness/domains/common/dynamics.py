"""Masks and token KL during training, from the metrics that the trainer logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

History = Sequence[Mapping[str, Any]]
"""The log entries of one run: `history` of its `training.json`."""

RESPONSES = ("chosen", "rejected")


def quantities(common: bool) -> dict[str, str]:
    """Return the logged quantities to draw, name → label.

    Args:
        common: reward and KL share one mask, whose sparsity is drawn once.
    """
    masks = (
        {"sparsity/reward": "Zeros in the mask (%)"}
        if common
        else {
            "sparsity/reward": "Zeros in the reward mask (%)",
            "sparsity/kl": "Zeros in the KL mask (%)",
        }
    )
    return {**masks, "kl": "Token KL (nats)"}


def panels(runs: Mapping[float, Sequence[History]], common: bool) -> list[dict[str, Any]]:
    """Return one panel per quantity and response, with one series per β.

    Args:
        runs: β → the history of each chain.
        common: see `quantities`.

    Returns:
        Panels: `quantity`, `label`, `response`, and `series` of `beta`, `steps`, `mean` over
        chains, `low` and `high` (smallest and largest chain), `seeds`, the number of chains.
    """
    return [
        {
            "quantity": name,
            "label": label,
            "response": response,
            "series": [
                {"beta": beta, **series(histories, f"{name}/{response}")}
                for beta, histories in sorted(runs.items())
            ],
        }
        for name, label in quantities(common).items()
        for response in RESPONSES
    ]


def series(histories: Sequence[History], key: str) -> dict[str, Any]:
    """Return a logged quantity against the training step.

    Args:
        histories: one per chain.
        key: the quantity's logged name.

    Returns:
        `steps`, and `mean`, `low` and `high` over the chains that have an entry at each step.
    """
    found: dict[int, list[float]] = {}
    for history in histories:
        for entry in history:
            if key in entry:
                found.setdefault(int(entry["step"]), []).append(float(entry[key]))
    steps = sorted(found)
    return {
        "steps": steps,
        "mean": [sum(found[step]) / len(found[step]) for step in steps],
        "low": [min(found[step]) for step in steps],
        "high": [max(found[step]) for step in steps],
        "seeds": len(histories),
    }
