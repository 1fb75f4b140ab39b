"""Stages: what is computed from what, and the address of every result.

A stage is a function with a configuration and named inputs (other stages, outside files).
Its address is a hash of everything that its result depends on; so a result that is in the
store never has to be made again, and a changed input can never be mistaken for the old one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from harness.graph.files import canonical_json, content_hash
from sparsepo.errors import UserError

FORMAT = 1
"""Version of the store's layout; a change of it moves every address."""

Progress = Callable[[float, float, str], None]
"""(done, total, what) → None; cheap to call often."""


@dataclass(frozen=True)
class StageContext:
    """What a stage function is given."""

    name: str
    config: Mapping[str, Any]
    """The stage's configuration, plain JSON values."""
    inputs: Mapping[str, Path]
    """Folder of each input stage's artefact, to be read only."""
    files: Mapping[str, Path]
    """Outside files and folders, to be read only."""
    work: Path
    """The folder to write to. It becomes the artefact; a resumable stage may find its own
    earlier checkpoints in it."""
    progress: Progress
    threads: int


@dataclass(frozen=True, eq=False)
class Stage:
    """One node of the graph; compare stages by their address."""

    name: str
    """For people: unique in a run, not part of the address."""
    function: str
    """``package.module:function``, called with a StageContext."""
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    """Outside files: their contents are hashed, their places are not."""
    code: tuple[str, ...] = ()
    """Modules and packages whose source is the code version of this stage."""
    libraries: tuple[str, ...] = ()
    """Distributions whose version can change the result."""
    threads: int = 1
    """Torch threads; part of the address, since sums over threads round differently."""
    resumable: bool = False
    """The function can go on from what an interrupted run left in its work folder."""
    seconds_hint: float = 10.0
    """Rough duration for the first estimate shown; not part of the address."""

    @cached_property
    def record(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON values."""
        return {
            "format": FORMAT,
            "function": self.function,
            "config": dict(self.config),
            "inputs": {name: stage.address for name, stage in sorted(self.inputs.items())},
            "files": {name: content_hash(path) for name, path in sorted(self.files.items())},
            "code": code_version((self.function.split(":")[0], *self.code)),
            "libraries": {name: library_version(name) for name in sorted(self.libraries)},
            "threads": self.threads,
        }

    @cached_property
    def address(self) -> str:
        """SHA-256 of the canonical JSON of ``record``, in hexadecimal."""
        return hashlib.sha256(canonical_json(self.record).encode()).hexdigest()


def topological(targets: Iterable[Stage]) -> list[Stage]:
    """Return the targets and all they need, inputs first, each address once.

    Args:
        targets: the stages whose results are wanted.

    Returns:
        Stages in an order in which they can be run one after the other.
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


@lru_cache(maxsize=1024)
def code_version(modules: tuple[str, ...]) -> str:
    """Return a hash of the source of modules and packages, without importing them.

    Comments, layout and docstrings do not count: the syntax tree is hashed, so that an edit
    which cannot change a result does not throw results away. Data files of a package
    (templates, JSON, YAML) count byte by byte.

    Args:
        modules: dotted names; a package stands for everything below it.

    Returns:
        64 hexadecimal digits.

    Raises:
        UserError: if a module cannot be found.
    """
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        place = _locate(name)
        files = [place] if place.is_file() else _source_files(place)
        for file in files:
            relative = file.name if place.is_file() else file.relative_to(place).as_posix()
            digest.update(f"{name}\0{relative}\0".encode())
            digest.update(_source_hash(file).encode())
    return digest.hexdigest()


def _source_files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if "__pycache__" not in p.parts and p.suffix != ".md")


def _source_hash(file: Path) -> str:
    data = file.read_bytes()
    if file.suffix == ".py":
        try:
            tree = ast.parse(data)
        except SyntaxError:
            return hashlib.sha256(data).hexdigest()
        for node in ast.walk(tree):
            # A string that stands alone is a docstring; nothing computes with it.
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [s for s in body if not _is_docstring(s)]  # type: ignore[attr-defined]
        data = ast.dump(tree).encode()
    return hashlib.sha256(data).hexdigest()


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _locate(name: str) -> Path:
    """Find a module's file or a package's folder without importing anything."""
    # find_spec of a submodule imports its parents, so only the top-level name is given to it.
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is not None and spec.origin is not None and spec.submodule_search_locations is None:
        if not rest:
            return Path(spec.origin)
    elif spec is not None:
        for location in spec.submodule_search_locations or ():
            path = Path(location).joinpath(*rest)
            if path.is_dir():
                return path
            if path.with_suffix(".py").is_file():
                return path.with_suffix(".py")
    raise UserError(f"module {name} is not installed: its source is part of a stage's address")
