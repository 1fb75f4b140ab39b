"""What the user asked `run` for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.assign import parse_assignment


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


def assigned_keys(assignments: Sequence[str]) -> set[str]:
    """Return the dotted names that the user gave values to."""
    return {parse_assignment(text)[0] for text in assignments}
