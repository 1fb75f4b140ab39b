"""How large the leaderboard's benchmarks are in a run: rows of files, and the cost of passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.commands.plan.cost_model import Shape, forward_flops
from harness.commands.plan.facts import BENCHMARKS, WORLD_BENCHMARKS, Benchmark
from harness.commands.plan.model_sizes import UnknownSizeError
from harness.commands.plan.sizes import capped
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from tasks.leaderboard_v2.scoring import LEAF_TASKS
from tasks.leaderboard_v2.sources import read_file

_FILES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class Planned:
    """One benchmark of a run."""

    size: Benchmark
    rows: float
    tasks: float
    """Leaf tasks that have rows."""
    pack_tokens: int | None
    """Tokens of a packed row beyond its first request; None scores each request apart."""

    @property
    def requests(self) -> float:
        """How many requests are scored or answered."""
        return self.rows * self.size.requests

    def flops(self, shape: Shape) -> float:
        """Return the FLOPs of the passes over its prompts.

        Packed requests share what they have in common: a row's options their prompt, and a task's
        rows their examples.

        Args:
            shape: the model.
        """
        prompt = self.size.prompt
        if self.pack_tokens is None:
            return forward_flops(shape, self.requests * prompt, prompt, self.requests)
        own = prompt / (1 + self.size.examples)
        together = min(1 + self.pack_tokens // own, max(1.0, self.rows / self.tasks))
        length = prompt - own + together * own
        tokens = self.rows / together * length
        return forward_flops(shape, tokens, length, self.requests)


def planned(stage: Stage) -> tuple[dict[str, Planned], list[str]]:
    """Return the benchmarks of a leaderboard's stage, and those whose rows are not known.

    Args:
        stage: the stage that evaluates a model.
    """
    settings = stage.config["settings"]
    found: dict[str, Planned] = {}
    unknown = []
    for name, source in stage.config["sources"].items():
        if source is None:
            continue
        limit = (settings["limit"] or {}).get(name)
        pack = settings["pack_tokens"]
        size = WORLD_BENCHMARKS[name] if source == "world" else BENCHMARKS[name]
        rows: float
        tasks: float = size.tasks
        if source == "world":
            rows = stage.inputs["world"].config["rows"].get(name, 0)
            # Its requests are short, and were counted and timed as they are.
            pack = None
        elif source == "hub":
            rows = size.rows
        else:
            try:
                counts = rows_of_file(name, stage.files[name], limit)
            except UnknownSizeError:
                unknown.append(name)
                continue
            rows, tasks = sum(counts.values()), len(counts)
        rows = capped(rows, None if limit is None else limit * size.tasks)
        found[name] = Planned(size, rows, tasks, pack)
    return found, unknown


@lru_cache
def rows_of_file(name: str, path: Path, limit: int | None) -> Mapping[str, float]:
    """Return the rows of each leaf task that a file gives.

    Args:
        name: the benchmark.
        path: the file.
        limit: cap on the rows of each task; None for all.

    Raises:
        UnknownSizeError: it is no file of rows, or has none of the benchmark's.
    """
    if not path.is_file() or not path.name.endswith(_FILES):
        raise UnknownSizeError(f"the rows of {path.name} are counted when they are read")
    benchmark: Any = name
    keys = {leaf.key for leaf in LEAF_TASKS.values() if leaf.benchmark == benchmark}
    try:
        grouped = read_file(benchmark, path)
    except UserError as error:
        raise UnknownSizeError(str(error)) from None
    counts = {key: capped(len(rows), limit) for key, rows in grouped.items() if key in keys}
    if not counts:
        raise UnknownSizeError(f"{path.name} has no rows of {name}")
    return counts
