"""What the commands tell people: on standard error, once for all processes of a machine."""

from __future__ import annotations

import os
import sys
import time

PATIENCE = 30
"""Seconds that a process leaves to the first one on its machine to tell an error they share."""


def is_first() -> bool:
    """Return whether this is the first of the processes that a launcher started on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def say(text: object) -> None:
    """Print to standard error, once for all processes of a machine."""
    if is_first():
        print(text, file=sys.stderr)


def say_error(text: str) -> None:
    """Print an error; where several processes meet the same one, the first alone tells it.

    A launcher ends all processes when one of them has ended. So the others wait, and speak only if
    the first has met no error.
    """
    if not is_first():
        time.sleep(PATIENCE)
    print(f"Error: {text}", file=sys.stderr, flush=True)
