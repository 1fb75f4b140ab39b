"""The JSON of an experiment, read from a file that a user names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError


def read_result_file(file: Path, keys: Sequence[str] = ("id",)) -> dict[str, Any]:
    """Return the JSON that a run has written.

    Args:
        file: the file.
        keys: what it must have.

    Raises:
        UserError: the file cannot be read, or is not a result.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UserError(f"{file} is not valid JSON; run its experiment again.") from None
    if not isinstance(result, dict) or not set(keys) <= set(result):
        raise not_a_result(file)
    return result


def not_a_result(file: Path) -> UserError:
    """Return the error for a file that is not the result of an experiment."""
    return UserError(
        f"{file} is not the result of an experiment; give the JSON file that a run wrote."
    )
