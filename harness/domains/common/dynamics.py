"""Masks and token KL during training, from the metrics that the trainer logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        `steps`, and `mean`, `low` and `high` over the chains that have an entry at each step; the
        end of training is at the step of the longest chain. `per_chain` has the values of each
        chain at these steps, None where it has no entry.
    """
    logged = [
        {int(entry["step"]): float(entry[key]) for entry in history if key in entry}
        for history in histories
    ]
    chains = [
        {steps_of[step]: value for step, value in values.items()}
        for steps_of, values in zip(common_steps(logged), logged, strict=True)
    ]
    steps = sorted({step for chain in chains for step in chain})
    found = {step: [chain[step] for chain in chains if step in chain] for step in steps}
    return {
        "steps": steps,
        "mean": [sum(found[step]) / len(found[step]) for step in steps],
        "low": [min(found[step]) for step in steps],
        "high": [max(found[step]) for step in steps],
        "per_chain": [[chain.get(step) for step in steps] for chain in chains],
        "seeds": len(histories),
    }


def common_steps(chains: Sequence[Iterable[int]]) -> list[dict[int, int]]:
    """Return the steps at which the measurements of several chains are compared.

    Chains with another number of pairs end a step earlier or later; the ends of all are compared.

    Args:
        chains: the steps at which each chain was measured.

    Returns:
        For each chain, its step → the same, but for the last one the last step of any chain.
    """
    lists = [sorted(steps) for steps in chains]
    last = max((steps[-1] for steps in lists if steps), default=0)
    return [{step: last if step == steps[-1] else step for step in steps} for steps in lists]
