"""Ranks of systems over several metrics, tasks and chains, and how sure their means are.

In one chain, systems are ranked in each metric, and a system's rank in a task is the mean over the
task's metrics. Its chains differ by their luck, its tasks by what they ask for; both belong to the
uncertainty of a mean rank. docs/project_leaderboard.md derives the interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from scipy.stats import rankdata

from tasks.metrics.chains import PRIOR_DF
from tasks.metrics.significance import LEVEL, FloatArray


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """A mean rank with its interval."""

    mean: float
    interval: tuple[float, float] | None
    """None where there is neither a second chain nor a second task."""
    count: int
    """Number of chains of a task's rank, or of tasks of a mean rank."""


def chain_ranks(values: FloatArray, higher_is_better: bool) -> FloatArray:
    """Rank the systems in each chain; 1 is the best, and ties share their mean rank.

    Args:
        values: (systems, chains).
        higher_is_better: direction of the metric.

    Returns:
        Ranks, (systems, chains).
    """
    ranks: FloatArray = rankdata(-values if higher_is_better else values, axis=0)
    return ranks


def spread_ranks(ranks: FloatArray, systems: int) -> FloatArray:
    """Stretch ranks among fewer systems, so that the last one has the rank that it has elsewhere.

    ``1 + (r − 1)·(M − 1)/(m − 1)`` for m systems of M.

    Args:
        ranks: among m > 1 systems, (m, …).
        systems: M.
    """
    return 1.0 + (ranks - 1.0) * (systems - 1) / (len(ranks) - 1)


def task_ranks(
    ranks: Mapping[str, FloatArray], systems: int, level: float = LEVEL
) -> dict[str, RankEstimate]:
    """Estimate each system's rank in one task from its chains.

    ``r̄ ± t_{d+ν} · √(s̃²/C)``, with ν = C − 1 and the variance over chains moderated over the
    systems, as in `tasks.metrics.chains.compare_with`. The interval ends at 1 and M.

    Args:
        ranks: system → its rank in each chain, (C,).
        systems: number M of systems, to which the interval is clipped.
        level: nominal coverage.
    """
    return _estimates(ranks, dict.fromkeys(ranks, 0.0), systems, level)


def mean_ranks(
    tasks: Sequence[Mapping[str, FloatArray]], systems: int, level: float = LEVEL
) -> dict[str, RankEstimate]:
    """Estimate each system's mean rank over a population of tasks, of which these are a sample.

    With r̄_t the mean over the chains of task t, ``R = Σ_t r̄_t / T`` has the variance ``s²/T`` with
    s² the variance of the r̄_t, which contains the chance of their chains. It is moderated over
    the systems, and never below ``Σ_t (s_t²/C_t) / T²``, which the chains alone explain. With one
    task the interval is that over chains, and says nothing about another task.

    Args:
        tasks: of each task: system → its rank in each chain, (C,); a system may be absent.
        systems: number M of systems, to which the interval is clipped.
        level: nominal coverage.
    """
    if len(tasks) == 1:
        alone = task_ranks(tasks[0], systems, level)
        return {name: RankEstimate(one.mean, one.interval, 1) for name, one in alone.items()}
    means: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for task in tasks:
        variances = _moderated(task)[0]
        for name, own in task.items():
            means.setdefault(name, []).append(float(own.mean()))
            errors.setdefault(name, []).append(variances.get(name, 0.0) / own.size)
    over_tasks = {name: np.array(own) for name, own in means.items()}
    floors = {name: sum(own) / len(own) ** 2 for name, own in errors.items()}
    return _estimates(over_tasks, floors, systems, level)


def _estimates(
    samples: Mapping[str, FloatArray], floors: Mapping[str, float], systems: int, level: float
) -> dict[str, RankEstimate]:
    variances, lent = _moderated(samples)
    found = {}
    for name, sample in samples.items():
        mean = float(sample.mean())
        df = lent + sample.size - 1
        if name not in variances or df <= 0.0:
            found[name] = RankEstimate(mean, None, sample.size)
            continue
        variance = max(variances[name] / sample.size, floors[name])
        reach = float(stdtrit(df, (1.0 + level) / 2.0)) * math.sqrt(variance)
        ends = (max(1.0, mean - reach), min(float(systems), mean + reach))
        found[name] = RankEstimate(mean, ends, sample.size)
    return found


def _moderated(samples: Mapping[str, FloatArray]) -> tuple[dict[str, float], float]:
    """Return each sample's variance, and the degrees of freedom that the others lend it.

    A sample of one value has the variance of the others, if there are any.
    """
    own = {name: float(one.var(ddof=1)) for name, one in samples.items() if one.size > 1}
    if not own:
        return {}, 0.0
    pooled = float(np.mean(list(own.values())))
    typical = float(np.mean([samples[name].size - 1 for name in own]))
    others = (len(own) - 1) * typical
    lent = 1.0 / (1.0 / PRIOR_DF + 1.0 / others) if others > 0.0 else 0.0
    moderated = {}
    for name, sample in samples.items():
        df = sample.size - 1
        if lent + df > 0.0:
            moderated[name] = (lent * pooled + df * own.get(name, 0.0)) / (lent + df)
    return moderated, lent
