"""Stages: what is computed from what, and the address of every result.

A stage is a function with a configuration and named inputs (other stages, outside files). Its
address is a hash of everything that its result depends on. A result in the store therefore never
has to be computed again, and the result of a changed input is never mistaken for the old one.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from harness.graph.closure import code_version
from harness.graph.files import canonical_json, content_hash

FORMAT = 1
"""Version of the store's layout; changing it changes every address."""

Progress = Callable[[float, float, str], None]
"""Called with (done, total, unit); cheap enough to be called often."""


@dataclass(frozen=True)
class StageContext:
    """The argument of a stage function."""

    name: str
    config: Mapping[str, Any]
    """The stage's configuration, as JSON data."""
    inputs: Mapping[str, Path]
    """Folder of each input stage's artefact, read-only."""
    files: Mapping[str, Path]
    """Outside files and folders, read-only."""
    work: Path
    """The folder to write to, which becomes the artefact. A resumable stage may find its earlier
    checkpoints in it."""
    progress: Progress
    threads: int
    options: Mapping[str, Any] = field(default_factory=dict)
    """How to compute without effect on the result, as JSON data."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A node of the graph; stages are compared by address."""

    name: str
    """Display name; unique in a run, not part of the address."""
    function: str
    """``package.module:function``, called with a StageContext."""
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    """Outside files; their contents are hashed, their locations are not."""
    code: tuple[str, ...] = ()
    """Modules that affect the result but are not imported by the function's module: its method."""
    without: tuple[str, ...] = ()
    """Modules that the function's module imports but that are replaced by those in ``code``: the
    table of all methods."""
    libraries: tuple[str, ...] = ()
    """Distributions whose version may affect the result."""
    threads: int = 1
    """Torch threads; part of the address, because rounding depends on their number."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How the result is computed without effect on it, such as a batch size or the address of a
    server; not part of the address."""
    resumable: bool = False
    """Whether the function can resume from the files of an interrupted run in its work folder."""
    seconds_hint: float = 10.0
    """Rough duration for the first estimate of the time left; not part of the address."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose import closure is the code version of this stage."""
        return (self.function.partition(":")[0], *self.code)

    @cached_property
    def record(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON data."""
        return {
            "format": FORMAT,
            "function": self.function,
            "config": dict(self.config),
            "inputs": {name: stage.address for name, stage in sorted(self.inputs.items())},
            "files": {name: content_hash(path) for name, path in sorted(self.files.items())},
            "code": code_version(self.modules, self.without),
            "libraries": {name: library_version(name) for name in sorted(self.libraries)},
            "threads": self.threads,
        }

    @cached_property
    def address(self) -> str:
        """SHA-256 of the canonical JSON of ``record``, in hexadecimal."""
        return hashlib.sha256(canonical_json(self.record).encode()).hexdigest()


def topological(targets: Iterable[Stage]) -> list[Stage]:
    """Return the targets and all stages that they need, inputs first, each address once.

    Args:
        targets: the stages whose results are needed.

    Returns:
        Stages in an order in which they can be run one after another.
    """
    order: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.address in order:
            return
        for needed in stage.inputs.values():
            visit(needed)
        order[stage.address] = stage

    for target in targets:
        visit(target)
    return list(order.values())


def load_function(reference: str) -> Callable[[StageContext], None]:
    """Import ``package.module:function``.

    Args:
        reference: the module and the function in it.

    Returns:
        The stage function.
    """
    module, _, name = reference.partition(":")
    function: Callable[[StageContext], None] = getattr(importlib.import_module(module), name)
    return function


@lru_cache(maxsize=256)
def library_version(name: str) -> str:
    """Return the installed version of a distribution, or "absent"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
