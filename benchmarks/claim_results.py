"""Results of all experiments that claims need, drawn instead of measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.commands.claims.claim import ALIGNED

Draw = Callable[[str, str], ArrayLike]
"""(row, column) → the value of each chain, (C,)."""

REASONING = ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval_inst", "ifeval_prom", "avg")
BETAS = (0.05, 0.2, 0.8)


def cell(values: ArrayLike, n: int = 100, item_se: float = 1.0) -> dict[str, Any]:
    """Return a cell of a result, as far as claims read it."""
    chains = np.asarray(values, dtype=np.float64)
    return {
        "mean": float(chains.mean()),
        "ci95": [0.0, 0.0],
        "seeds": len(chains),
        "per_chain": chains.tolist(),
        "item_se": item_se,
        "n": n,
    }


def table(id: str, rows: Sequence[str], columns: Sequence[str], draw: Draw) -> dict[str, Any]:
    """Return a table."""
    return {
        "id": id,
        "profile": "tiny",
        "column_labels": {column: column for column in columns},
        "columns": list(columns),
        "rows": [
            {
                "id": row,
                "method": row,
                "label": row,
                "values": {column: cell(draw(row, column)) for column in columns},
            }
            for row in rows
        ],
        "provenance": {"settings": {"data": {"rows": "world"}}},
    }


def frontier(draw: Draw) -> dict[str, Any]:
    """Return Figure 2; what is drawn for KL is 20 times its logarithm."""
    columns = ("reward_5",)
    found = table("figure2", ("sft", *ALIGNED), columns, draw)
    found["methods"] = [
        {
            "id": row,
            "method": row,
            "label": row,
            "points": [
                {
                    "beta": beta,
                    "step": step,
                    "reward": cell(draw(row, f"reward {beta} {step}")),
                    "kl": cell(np.exp(np.divide(draw(row, f"kl {beta} {step}"), 20.0))),
                    "n": 100,
                }
                for beta in BETAS
                for step in (8, 16)
            ],
        }
        for row in ALIGNED
    ]
    return found


def dynamics(id: str, draw: Draw) -> dict[str, Any]:
    """Return a figure of masks during training."""
    steps = [0, 2, 4, 6]
    panels = []
    for quantity in ("sparsity/reward", "sparsity/kl", "kl"):
        series = []
        for beta in BETAS:
            at = np.stack([draw(quantity, f"{beta} {step}") for step in steps], axis=1)
            series.append({"beta": beta, "steps": steps, "per_chain": at.tolist()})
        panels.append({"quantity": quantity, "response": "chosen", "series": series})
    return {"id": id, "profile": "tiny", "panels": panels, "provenance": {}}


def all_results(draw: Draw) -> dict[str, Any]:
    """Results of all experiments that claims need."""
    rows = ("sft", *ALIGNED)
    metrics = [f"{m}_{t}" for m in ("rougeL", "edna") for t in ("0", "0.25", "0.5", "0.75", "1")]
    matched = ["rougeL_matched", "bertscore_matched"]
    passes = [f"{b}_pass@{k}" for b in ("humaneval", "mbpp") for k in (1, 10, 100)]
    coded = [row for row in ALIGNED if row != "dpop"]
    decays = ["decay-0", "decay-0.001", "decay-0.01", "decay-0.1", "decay-1.0"]
    found = [
        table("table1", rows, REASONING, draw),
        frontier(draw),
        dynamics("figure3", draw),
        dynamics("figure6", draw),
        table("transfer", ("own-independent", "own-common"), ("auroc",), draw),
        table("figure5", rows, (*metrics, *matched), draw),
        table("table2", ("base", *coded), passes, draw),
        table("winrate-dialogue", rows, ("win_chosen",), draw),
        table("winrate-summarization", rows, ("win_chosen",), draw),
        table("table3", ("all-1", "last-1", "last-2"), ("avg",), draw),
        table("table4", decays, ("avg",), draw),
        table("table5", ("learned", "binary", "random"), ("avg",), draw),
        {"id": "figure4", "profile": "tiny", "provenance": {}},
    ]
    return {result["id"]: result for result in found}
