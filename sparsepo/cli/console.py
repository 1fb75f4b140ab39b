"""Messages of the commands on standard error, printed once per machine."""

from __future__ import annotations

import logging
import os
import sys
import time

PATIENCE = 30
"""Seconds that a process waits for the first process on its machine to print a common error."""


def hush_hints() -> None:
    """Leave out a hint of bitsandbytes, which peft imports.

    On some processors it asks for a package that would speed up 4-bit models, in every command.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def is_first() -> bool:
    """Return whether this is the first process that a launcher started on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def say(text: object) -> None:
    """Print to standard error, once per machine."""
    if is_first():
        print(text, file=sys.stderr)


def say_error(text: str) -> None:
    """Print an error; if several processes hit the same one, only the first process prints it.

    A launcher terminates all processes when one of them exits. The others therefore wait, and print
    their error only if the first process had none.
    """
    if not is_first():
        time.sleep(PATIENCE)
    print(f"Error: {text}", file=sys.stderr, flush=True)
