"""pass@k: how probably one of k samples of a problem is right."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Estimate without bias how probably one of k samples passes.

    ``1 − C(n − c, k) / C(n, k)``, the share of the k-subsets of n samples that hold at least one
    of the c that pass. Computed in whole numbers and divided once, so that it is the nearest float
    however large n is and however near to 0 or 1 the value.

    Args:
        samples: number n of samples of the problem.
        passed: number c of them that pass.
        k: size of the subsets, 1 ≤ k ≤ n.

    Returns:
        A probability.

    Raises:
        ValueError: unless 0 ≤ c ≤ n and 1 ≤ k ≤ n.

    Source:
        Chen et al., Evaluating Large Language Models Trained on Code (2021), equation 1.
    """
    if not 0 <= passed <= samples:
        raise ValueError(f"{passed} of {samples} samples cannot have passed")
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples is not defined")
    subsets = math.comb(samples, k)
    return (subsets - math.comb(samples - passed, k)) / subsets


def pass_at_k_of_problems(counts: Iterable[tuple[int, int]], k: int) -> NDArray[np.float64]:
    """Return pass@k of each problem.

    Args:
        counts: (samples, passed) of each problem.
        k: as in `pass_at_k`.

    Returns:
        One estimate per problem, (problems,).

    Raises:
        ValueError: if a problem has fewer than k samples.
    """
    return np.array([pass_at_k(samples, passed, k) for samples, passed in counts])
