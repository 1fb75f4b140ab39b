"""Hand-made results of experiments, with the schema that `run` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.commands.made_by import stage_codes
from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Statistic
from harness.domains.common.spec import ColumnSpec, RowSpec, percentage
from harness.domains.common.table import block_json, column_facts
from harness.graph.stages import Stage
from tasks.metrics.chains import ChainValues

COLUMNS = (
    percentage("bbh", "BBH"),
    percentage("musr", "MuSR"),
    percentage("avg", "Avg"),
    ColumnSpec("length", "Length", None),
)
LEVELS = {"sft": 40.0, "dpo": 50.0, "simpo": 50.0, "mapo": 60.0}
FUNCTION = "harness.domains.common.work.link:link_artefact"
COST = {
    "stage": "dpo seed 42",
    "seconds": 8.0,
    "reference_seconds": 2.0,
    "peak_memory_bytes": 512 * 2**20,
    "memory_of": "process",
    "tokens": 40_000,
    "tokens_per_second": 5000.0,
    "trained_parameters": 480_000,
    "hardware": "2 × CPU",
    "threads": 1,
}


def small_result(
    experiment: str = "table1",
    levels: Mapping[str, float] = LEVELS,
    *,
    chains: int = 5,
    seed: int = 0,
    rows: Sequence[RowSpec] | None = None,
    profile: str = "tiny",
) -> dict[str, Any]:
    """A table whose chains differ by 3 points, its rows within them by 0.5.

    A row's chance depends on its name and the seed alone, so that two results have equal rows.
    """
    common = np.random.default_rng(seed).normal(0, 3, (len(COLUMNS), chains))
    cells: dict[str, dict[str, Statistic]] = {}
    for row, level in levels.items():
        generator = np.random.default_rng([seed, *row.encode()])
        for place, column in enumerate(COLUMNS):
            values = level + common[place] + generator.normal(0, 0.5, chains)
            drawn = values[:, None] + generator.normal(0, 0.5, (chains, 50))
            cells.setdefault(row, {})[column.id] = Statistic(ChainValues(values, drawn, 100))
    specs = rows or [RowSpec(row, row, row.upper()) for row in levels]
    block = block_json(specs, COLUMNS, cells, StatisticsSettings(), baselines=("dpo",))
    return {
        "id": experiment,
        "title": f"A small {experiment}",
        "profile": profile,
        **column_facts(COLUMNS),
        **block,
        "average": "avg",
        "baseline": "dpo",
        "provenance": {
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "versions": {"lm_eval": "0.4.13", "torch": "2.13.0"},
            "hardware": "2 × CPU",
            "statistics": {"replicates": 2000, "seed": 0, "alpha": 0.05},
            "plugins": {},
            "settings": {
                "name": profile,
                "data": {"hh_rlhf": "world"},
                "seeds": chains,
                "po": {"epochs": 1},
                "methods": {row: {"beta": 0.1} for row in levels},
            },
            "command": f"python -m harness run --table {experiment[-1]} --profile {profile}",
            "stages": stage_codes([Stage("s", FUNCTION)]),
        },
        "notes": [],
    }


def write_result(
    results: Path,
    result: Mapping[str, Any],
    costs: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    name: str | None = None,
) -> Path:
    """Write a result, and costs where there are any, as `run` does; return the JSON's path."""
    folder = results / result["profile"] / (name or result["id"])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result['id']}.json"
    file.write_text(json.dumps(result), encoding="utf-8")
    if costs is not None:
        (folder / "timings.json").write_text(json.dumps({"training": costs}), encoding="utf-8")
    return file
