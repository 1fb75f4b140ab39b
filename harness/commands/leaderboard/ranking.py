"""The ranks of entries: in each metric and chain, then over experiments, tasks and chains."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tasks.metrics.mean_rank import (
    RankEstimate,
    chain_ranks,
    mean_ranks,
    spread_ranks,
    task_ranks,
)
from tasks.metrics.significance import FloatArray

Values = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Metric's key → entry → cell."""


@dataclass(frozen=True)
class Metric:
    """A column of an experiment."""

    task: str
    experiment: str
    column: str
    label: str
    higher_is_better: bool | None
    ranked: bool
    """Whether it may count for ranks: not an average of others, and with a direction."""

    @property
    def key(self) -> str:
        """Return the key under which values are kept."""
        return f"{self.experiment}/{self.column}"

    def as_json(self) -> dict[str, Any]:
        """Return the metric as the leaderboard's JSON holds it."""
        return {"key": self.key, **asdict(self)}


@dataclass(frozen=True)
class Ranks:
    """The ranks of all entries."""

    mean: dict[str, RankEstimate] = field(default_factory=dict)
    tasks: dict[str, dict[str, RankEstimate]] = field(default_factory=dict)
    """Task → entry → its rank."""


def rank_entries(
    metrics: Sequence[Metric], values: Values, required: Mapping[str, Collection[str]]
) -> Ranks:
    """Rank the entries.

    Within a chain, an entry's rank in an experiment is the mean over its ranked metrics, and its
    rank in a task the mean over the task's experiments.

    Args:
        metrics: all of them.
        values: the cells.
        required: experiment → the rows that must all have a metric for it to count.
    """
    tasks: dict[str, dict[str, list[FloatArray]]] = {}
    systems = len({entry for own in values.values() for entry in own})
    for experiment in dict.fromkeys(metric.experiment for metric in metrics):
        own = [
            metric
            for metric in metrics
            if metric.experiment == experiment
            and metric.ranked
            and set(required[experiment]) <= set(values.get(metric.key, {}))
        ]
        for entry, ranks in _in_experiment(own, values, systems).items():
            tasks.setdefault(own[0].task, {}).setdefault(entry, []).append(ranks)
    means = {
        task: {entry: _mean_of(parts) for entry, parts in own.items()}
        for task, own in tasks.items()
    }
    return Ranks(
        mean_ranks(list(means.values()), systems) if means else {},
        {task: task_ranks(own, systems) for task, own in means.items()},
    )


def _in_experiment(
    metrics: Sequence[Metric], values: Values, systems: int
) -> dict[str, FloatArray]:
    """Entry → its mean rank in each chain; entries that lack a metric are absent."""
    if not metrics:
        return {}
    entries = [
        entry
        for entry in values[metrics[0].key]
        if all(entry in values[metric.key] for metric in metrics)
    ]
    if len(entries) < 2:
        return {}
    # Every metric of an experiment is measured in the same chains; a model given from outside is
    # the same in all of them.
    chains = max(
        len(values[metric.key][entry]["per_chain"]) for metric in metrics for entry in entries
    )
    ranks = [
        chain_ranks(
            np.stack(
                [_in_chains(values[metric.key][entry]["per_chain"], chains) for entry in entries]
            ),
            bool(metric.higher_is_better),
        )
        for metric in metrics
    ]
    mean = spread_ranks(np.mean(ranks, axis=0), systems)
    return dict(zip(entries, mean, strict=True))


def _in_chains(per_chain: Sequence[float], chains: int) -> FloatArray:
    values = np.asarray(per_chain, dtype=np.float64)
    return np.repeat(values, chains) if values.size == 1 else values


def _mean_of(parts: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over a task's experiments, of the chains that all of them have."""
    chains = min(part.size for part in parts)
    mean: FloatArray = np.mean([part[:chains] for part in parts], axis=0)
    return mean
