"""Figures 3, 6, 7 and 8: masks and token KL during training, from the metrics that were logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.config.assign import assigned_keys
from harness.config.profiles import DynamicsSettings
from harness.config.request import RunRequest
from harness.domains.common.rows import method_rows
from harness.domains.common.spec import DynamicsSpec, Experiment, RowSpec
from sparsepo.errors import UserError
from sparsepo.registry import method_class

History = Sequence[Mapping[str, Any]]
"""The log entries of one run: `history` of its `training.json`."""

INDEPENDENT = "sparsepo-independent"


def masks_variant(
    experiment: Experiment, settings: DynamicsSettings, request: RunRequest
) -> Experiment:
    """Return a figure with the masks that the user asks for; other experiments have no choice.

    Args:
        experiment: a figure of training dynamics, with a row of SparsePO's independent masks.
        settings: which masks.
        request: the user's options.

    Returns:
        The figure, or its variant, whose files are in a folder of their own.

    Raises:
        UserError: `dynamics` is set for another experiment, or beside --methods.
    """
    given = [key for key in assigned_keys(request.assignments) if key.startswith("dynamics.")]
    if given and not isinstance(experiment, DynamicsSpec):
        raise UserError(f"{given[0]} has no effect on {experiment.id}; leave it out.")
    if given and request.methods is not None:
        raise UserError(
            f"{given[0]} has no effect beside --methods, which names the rows; leave one of them "
            "out."
        )
    if settings.masks == "independent" or not isinstance(experiment, DynamicsSpec):
        return experiment
    (common,) = method_rows("sparsepo-common")
    return replace(
        experiment,
        rows=tuple(common if row.method == INDEPENDENT else row for row in experiment.rows),
        title=experiment.title.replace("independent masks", "common mask"),
        variant="-common",
    )


def dynamics_facts(
    spec: DynamicsSpec, row: RowSpec, profile: str, runs: Mapping[float, Sequence[History]]
) -> dict[str, Any]:
    """Return the part of a figure's JSON that every domain's has: what it shows, and its panels.

    Args:
        spec: the figure.
        row: the row that is drawn.
        profile: the profile's name.
        runs: β → the history of each chain.
    """
    common = method_class(row.method).needs.mask != "learned-independent"
    number = spec.id.removeprefix("figure")
    return {
        "id": spec.id,
        "title": spec.title,
        "heading": f"Figure {number} ({profile} profile). {row.label}, {spec.response} responses: "
        "masks and token KL during training",
        "profile": profile,
        "method": row.method,
        "masks": "common" if common else "independent",
        "response": spec.response,
        "panels": panels(runs, common, spec.response),
    }


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


def panels(
    runs: Mapping[float, Sequence[History]], common: bool, response: str
) -> list[dict[str, Any]]:
    """Return one panel per quantity, with one series per β.

    Args:
        runs: β → the history of each chain.
        common: see `quantities`.
        response: over which responses, "chosen" or "rejected".

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
