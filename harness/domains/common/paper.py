"""The paper's published numbers."""

from __future__ import annotations

import json
from pathlib import Path

from sparsepo.errors import UserError

PAPER = Path(__file__).parents[3] / "results" / "paper"


def paper_numbers(table: str) -> dict[str, dict[str, float]]:
    """Return the paper's published numbers of a table, row id → column → value.

    Raises:
        UserError: the data file is missing from the installation, or damaged.
    """
    path = PAPER / f"{table}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"The file {path} with the paper's numbers is missing; run from a clone of the "
            "repository."
        ) from None
    except (OSError, ValueError):
        raise _damaged(path) from None
    try:
        return {row["method"]: row["values"] for row in data["rows"]}
    except (KeyError, TypeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> UserError:
    return UserError(
        f"The file {path} with the paper's numbers cannot be read; restore it, for example with "
        "git checkout."
    )
