"""Computes pass@k with intervals from verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsepo.errors import UserError
from tasks.code.judging import Result
from tasks.code.problems import printable, task_key
from tasks.code.samples import SampleSet
from tasks.metrics.pass_at_k import pass_at_k_of_problems
from tasks.metrics.significance import bootstrap_mean, percentile_interval

DEFAULT_KS = (1, 10, 100)
REPLICATES = 2000


@dataclass(frozen=True, slots=True)
class PassAtK:
    """pass@k of a benchmark, as a share between 0 and 1."""

    k: int
    mean: float
    low: float
    """95 % percentile interval, bootstrapped over problems."""
    high: float


def usable_ks(samples: SampleSet, ks: Sequence[int] | None) -> tuple[int, ...]:
    """Return the values of k to compute, ascending.

    Args:
        samples: the samples.
        ks: the requested values; None for those of 1, 10 and 100 for which every problem has enough
            samples.

    Raises:
        UserError: a requested value exceeds the number of samples of a problem.
    """
    counts = samples.per_problem()
    fewest = min(counts, key=lambda key: counts[key])
    if ks is None:
        return tuple(k for k in DEFAULT_KS if k <= counts[fewest])
    for k in ks:
        if k > counts[fewest]:
            raise UserError(
                f"pass@{k} needs {k} samples of each problem, but {printable(fewest)} has "
                f"{counts[fewest]}; use --k {counts[fewest]} or less."
            )
    return tuple(sorted(set(ks)))


def score(
    samples: SampleSet, results: Sequence[Result], ks: Sequence[int], seed: int = 0
) -> list[PassAtK]:
    """Compute pass@k; only `passed` counts as a pass.

    Args:
        samples: the samples and their problems.
        results: one result per sample, in order.
        ks: values of k, each at most the smallest number of samples of a problem.
        seed: seed of the bootstrap over problems.

    Returns:
        One value per k, in the order of `ks`.
    """
    passed = dict.fromkeys(samples.per_problem(), 0)
    for sample, result in zip(samples.samples, results, strict=True):
        passed[task_key(sample.problem.task_id)] += result.verdict == "passed"
    counts = [(number, passed[key]) for key, number in samples.per_problem().items()]
    scores = []
    for k in ks:
        values = pass_at_k_of_problems(counts, k)
        mean = float(np.mean(values))
        low, high = percentile_interval(bootstrap_mean(values, REPLICATES, seed))
        # The interval of equal values is a single point, in spite of rounding.
        scores.append(PassAtK(k, mean, min(low, mean), max(high, mean)))
    return scores
