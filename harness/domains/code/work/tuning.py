"""The stage that chooses a method's β from a few judged samples per β."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.domains.common.work.files import write_json
from harness.graph.stages import StageContext
from tasks.metrics.pass_at_k import pass_at_k_of_problems


def choose_beta(context: StageContext) -> None:
    """Write tuned.json: `hyper_parameters` with the chosen β, and the `scores` of all.

    Configuration: `k`, `benchmark`, `default` (the β that wins a tie, or None). Inputs: verdicts by
    β, such as "0.8".
    """
    config = context.config
    counts = {
        float(name): [
            (samples, passed)
            for samples, passed in json.loads((folder / "report.json").read_text())["benchmarks"][
                config["benchmark"]
            ]["problems"].values()
        ]
        for name, folder in context.inputs.items()
    }
    scores = {beta: _scores(problems, config["k"]) for beta, problems in counts.items()}
    chosen = best(scores, config["default"])
    write_json(
        {
            "hyper_parameters": {"beta": chosen},
            "scores": {f"{beta:g}": score for beta, score in sorted(scores.items())},
            "k": config["k"],
        },
        context.work / "tuned.json",
    )


def best(scores: Mapping[float, Mapping[str, float]], default: float | None) -> float:
    """Return the β with the highest pass@k; pass@1, the default and the smaller β break ties.

    Args:
        scores: β → `pass@k` and `pass@1`.
        default: a β, which need not be in `scores`.
    """
    return max(
        scores,
        key=lambda beta: (
            scores[beta]["pass@k"],
            scores[beta]["pass@1"],
            beta == default,
            -beta,
        ),
    )


def _scores(problems: list[tuple[int, int]], k: int) -> dict[str, Any]:
    return {
        "pass@k": float(pass_at_k_of_problems(problems, k).mean()),
        "pass@1": float(pass_at_k_of_problems(problems, 1).mean()),
    }
