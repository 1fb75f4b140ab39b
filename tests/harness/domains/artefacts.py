"""Finished artefacts by hand, for what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.profiles import Profile
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import Experiment
from harness.graph.stages import Stage
from harness.graph.store import Store

FUNCTION = "harness.domains.dialogue.work.check:check_benchmarks"


def stage(name: str, inputs: Mapping[str, Stage] | None = None, **values: Any) -> Stage:
    """Return a stage that differs from others by its name."""
    config = {"name": name, **values.pop("config", {})}
    return Stage(name, values.pop("function", FUNCTION), config, inputs or {}, **values)


def put(store: Store, made: Stage, **files: Any) -> Stage:
    """Write a stage's files: rows to name_jsonl, anything else to name_json."""
    folder = store.folder(made.address)
    folder.mkdir(parents=True, exist_ok=True)
    for key, content in files.items():
        name, _, kind = key.rpartition("_")
        lines = "".join(f"{json.dumps(row)}\n" for row in content) if kind == "jsonl" else ""
        (folder / f"{name}.{kind}").write_text(lines or json.dumps(content))
    return made


def finished(
    experiment: Experiment, graph: Any, store: Store, rows: Sequence[str]
) -> FinishedRun[Profile, Any]:
    """Return a finished run of some rows; the profile is not read."""
    chosen = tuple(row for row in experiment.rows if row.id in rows)
    return FinishedRun(experiment, None, graph, store, chosen, {})  # type: ignore[arg-type]
