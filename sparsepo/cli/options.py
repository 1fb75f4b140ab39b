"""Options of the command line that are shared by its commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sparsepo.errors import UserError


def key_values(items: Sequence[str], example: str) -> dict[str, Any]:
    """Return `--set key=value` items by key, each value as JSON where it is JSON, else as text.

    Args:
        items: the items; the last one of a key counts.
        example: what to write instead of an item without "=".

    Raises:
        UserError: no "=".
    """
    values: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise UserError(f"--set takes key=value, not '{item}'; write --set {example}, say.")
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = text
    return values
