"""Errors that the user can fix: printed as one plain sentence, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """A mistake that the user can fix; its text is one plain sentence with the remedy."""


class EmptyDataError(UserError):
    """Data was read, and every row or pair of it had to be left out."""


class DivergedError(UserError):
    """Training has left the numbers: a loss, a weight or a probability is not finite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest known name, or an empty string.

    Args:
        name: the unknown name that was given.
        known: the names that exist.

    Returns:
        A sentence that starts with a space, to append to an error message.
    """
    close = difflib.get_close_matches(name, list(known), n=5)
    # Of names that are about as close, one that goes on from what was typed.
    best = next((found for found in close if found.startswith(name)), *close[:1] or (None,))
    return f" Did you mean '{best}'?" if best else ""


def require_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise a UserError unless an option's value is one of the choices."""
    if value not in choices:
        listed = [str(choice) for choice in choices]
        hint = did_you_mean(str(value), listed)
        raise UserError(f"{name} cannot be {value!r}.{hint} Choose one of: {', '.join(listed)}.")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for a one-line message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
