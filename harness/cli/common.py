"""What several commands share: exit codes, the usual folders, the console."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sparsepo.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

RESULTS = Path("results")
"""Where results, and the store beside them, are by default."""

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143


class Terminated(BaseException):
    """SIGTERM, raised as an exception so that workers are ended and folders closed on exit."""


def console() -> Console:
    """Return a console for tables; one that is not a terminal is wide enough for them."""
    from rich.console import Console

    usual = Console()
    # A pipe has no width; a table must not be wrapped at 80 columns.
    return usual if usual.is_terminal else Console(width=170)


def tell_written(folder: Path, name: str) -> None:
    """Print which files of a result have been written."""
    suffixes = ",".join(sorted(path.suffix[1:] for path in folder.glob(f"{name}.*")))
    print(f"written: {folder / name}.{{{suffixes}}}")


def names_of(
    text: str | None, example: str = "methods, such as --methods sft,dpo"
) -> tuple[str, ...] | None:
    """Return the names in an option's text, without repetitions; None if it was not given.

    Args:
        text: names separated by commas.
        example: what they are, with the option as it is written.

    Raises:
        UserError: there is no name in it.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        option = example.partition("--")[2].split()[0]
        raise UserError(f"--{option} is empty; name {example}.")
    return names


def store_of(options: argparse.Namespace, out: Path | None = None) -> Path:
    """Return the folder of artefacts.

    Args:
        options: of a command that has --store.
        out: folder of the results, by default that of the options.
    """
    if options.store is not None:
        return Path(options.store)
    variable = os.environ.get("SPARSEPO_STORE")
    return Path(variable) if variable else store_beside(options.out if out is None else out)


def store_beside(results: Path) -> Path:
    """Return the usual folder of artefacts for a folder of results."""
    return results / ".store"
