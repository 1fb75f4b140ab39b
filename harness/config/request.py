"""The options of the command `run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class RunRequest:
    """The options of one run."""

    profile: str = "tiny"
    methods: tuple[str, ...] | None = None
    seeds: int | None = None
    tune: int | Literal["profile"] | None = None
    """Trials of each method for its tuned row; "profile" for the profile's number, None for no
    tuned rows."""
    assignments: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    engine: str = "local"
    workers: int | None = None
    cpus_per_stage: float | None = None
    """Cores that each stage reserves on a cluster; None for as many as it has threads."""
    gpus_per_stage: float | None = None
    """GPUs that each stage on a GPU reserves on a cluster; None for one."""
    out: Path = Path("results")
    store: Path = Path("results/.store")
    allow_code_execution: bool = False
    """Whether the user allows model-generated programs to run on this machine."""
    yes: bool = False
    """Whether the user agrees to the estimated cost of a judge."""
    accept_terms: tuple[str, ...] = ()
    """Packaged models whose terms of use the user agrees to."""
    quiet: bool = False
