"""Notes that fit a screen: which are shown under a table, and which only its JSON has.

A screen is a terminal of 24 lines of 80 columns, the smallest in use. Notes come in the order of
their importance; each is shown if it fits into the lines that are left, in its short form where it
has one and is long. The others are in the JSON (`more_notes`) and on the result's page, and the
last line says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

LINES, COLUMNS = 24, 80
"""The screen that a result's notes have to fit."""
LONGEST = 7
"""Lines of a note beyond which it is shown in its short form."""


class LongNote(str):
    """A note that may be long, with a short form for the screen."""

    __slots__ = ("short",)
    short: str

    def __new__(cls, text: str, short: str) -> LongNote:
        """Make a note.

        Args:
            text: the whole note.
            short: what is shown where it is long.
        """
        made = super().__new__(cls, text)
        made.short = short
        return made


def lines_of(note: str) -> int:
    """Return how many lines a note takes on the screen."""
    return len(textwrap.wrap(note, COLUMNS, break_on_hyphens=False))


def fit_notes(notes: Iterable[str]) -> dict[str, list[str]]:
    """Divide a result's notes into those that fit a screen and the rest.

    Args:
        notes: in the order of their importance; empty ones are left out.

    Returns:
        `notes`, of at most `LINES` - 1 lines, and `more_notes`, which is absent if there are none.
    """
    shown: list[str] = []
    rest: list[str] = []
    room = LINES - 1  # One line says where the rest is.
    for note in notes:
        if not note:
            continue
        short = note.short if isinstance(note, LongNote) else ""
        text = short if short and lines_of(note) > min(LONGEST, room) else str(note)
        if lines_of(text) <= room:
            shown.append(text)
            room -= lines_of(text)
        if shown[-1:] != [str(note)]:
            rest.append(str(note))
    return {"notes": shown, **({"more_notes": rest} if rest else {})}


def shown_notes(result: Mapping[str, Any]) -> list[str]:
    """Return the notes to show under a result: those that fit, and where the rest is.

    Args:
        result: its JSON.
    """
    more = len(result.get("more_notes", ()))
    if not more:
        return list(result["notes"])
    what = "One more note is" if more == 1 else f"{more} more notes are"
    return [*result["notes"], f"{what} in {result['id']}.json, under more_notes."]
