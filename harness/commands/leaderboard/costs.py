"""The cost of training, from the file that a run writes beside its result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIMINGS = "timings.json"
_NUMBERS = ("seconds", "reference_seconds", "peak_memory_bytes", "trained_parameters")

Costs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Row id → the cost of each of its training runs."""


def read_costs(results: Path, profile: str, name: str) -> dict[str, list[dict[str, Any]]]:
    """Return what the training runs behind a result have cost.

    Args:
        results: the folder that `run --out` names.
        profile: the profile.
        name: the result's folder, such as "table1".

    Returns:
        Row id → one entry per training run; empty where none is known, as in older results.
    """
    return costs_beside(results / profile / name / TIMINGS)


def costs_beside(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the costs in a timings.json; empty if it has none or cannot be read.

    Args:
        file: timings.json.
    """
    try:
        training = json.loads(file.read_text(encoding="utf-8"))["training"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return valid_costs(training)


def valid_costs(training: Any) -> dict[str, list[dict[str, Any]]]:
    """Return those rows of a file's costs whose numbers are numbers.

    Args:
        training: what the file holds.
    """
    if not isinstance(training, dict):
        return {}
    return {
        row: runs
        for row, runs in training.items()
        if isinstance(runs, list) and runs and all(map(_is_cost, runs))
    }


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means over training runs, one run being what a user would train.

    Args:
        runs: at least one.

    Returns:
        `seconds` (with the cache of the reference that a run reads), `peak_memory_bytes`,
        `memory_of`, `tokens_per_second` (of the training steps alone), `trained_parameters`,
        `hardware`, `threads` and `runs`, their number.
    """
    seconds = [run["seconds"] for run in runs]
    tokens = sum(run["tokens"] for run in runs)
    return {
        "seconds": round(
            _mean([s + run["reference_seconds"] for s, run in zip(seconds, runs, strict=True)]), 3
        ),
        "peak_memory_bytes": round(_mean([run["peak_memory_bytes"] for run in runs])),
        "memory_of": " and ".join(sorted({str(run["memory_of"]) for run in runs})),
        "tokens_per_second": round(tokens / sum(seconds), 1) if sum(seconds) > 0.0 else None,
        "trained_parameters": max(run["trained_parameters"] for run in runs),
        "hardware": "; ".join(sorted({str(run["hardware"]) for run in runs})),
        "threads": max(run["threads"] for run in runs),
        "runs": len(runs),
    }


def relative_seconds(own: Mapping[str, Any], base: Mapping[str, Any]) -> float | None:
    """Return how many times as long as the baseline an entry trains.

    The geometric mean over the experiments that both have on the same hardware.

    Args:
        own: experiment → summary of an entry's cost.
        base: the same of the baseline.

    Returns:
        None without such an experiment.
    """
    ratios = [
        own[name]["seconds"] / base[name]["seconds"]
        for name in own
        if name in base
        and base[name]["seconds"] > 0.0
        and own[name]["seconds"] > 0.0
        and all(own[name][key] == base[name][key] for key in ("hardware", "threads"))
    ]
    if not ratios:
        return None
    return round(math.exp(_mean([math.log(ratio) for ratio in ratios])), 3)


def _is_cost(run: Any) -> bool:
    if not isinstance(run, dict) or not {"memory_of", "hardware"} <= set(run):
        return False
    numbers = [run.get(name) for name in (*_NUMBERS, "tokens", "threads")]
    return all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in numbers)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
