"""What the user asked `run` for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunRequest:
    """The options of one run."""

    profile: str = "tiny"
    methods: tuple[str, ...] | None = None
    seeds: int | None = None
    assignments: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    engine: str = "local"
    workers: int | None = None
    out: Path = Path("results")
    store: Path = Path("results/.store")
    allow_code_execution: bool = False
    """The user agrees that programs which a model wrote are run here."""
    quiet: bool = False
