"""Unpaired rows: a prompt, one completion, and a label that says whether it is desirable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sparsepo.data.rows import kind_of
from sparsepo.errors import UserError

COMPLETION: Final = "completion"
LABEL: Final = "label"
COLUMNS: Final = (COMPLETION, LABEL)
"""TRL's columns, besides the prompt."""


def is_unpaired(columns: Collection[str]) -> bool:
    """Return whether rows with these columns hold one response each, with or without a label."""
    return COMPLETION in columns and not {"chosen", "rejected"} & set(columns)


def label_of(row: Mapping[str, Any], where: str) -> bool:
    """Return whether the completion of a row is desirable.

    Raises:
        UserError: its label is missing, or neither true nor false.
    """
    label = row.get(LABEL)
    if not isinstance(label, bool):
        found = "missing" if label is None else kind_of(label)
        raise UserError(
            f"{where}: '{LABEL}' is {found}; it must be true for a desirable completion and false "
            "for an undesirable one."
        )
    return label
