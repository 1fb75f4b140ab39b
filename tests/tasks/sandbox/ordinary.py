"""Becoming an ordinary user in a test that root runs."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from tasks.sandbox.box import namespaces

USER = 65534


def become_ordinary() -> None:
    """Become `nobody`, with a way to the interpreter; for `preexec_fn`."""
    namespaces.open_way(sys.base_prefix)
    namespaces.give_up_root(USER)


def closed_folder() -> Path | None:
    """Return a folder that keeps an ordinary user from the interpreter or the project, or None."""
    places = (Path(sys.executable).absolute(), Path(__file__).resolve())
    folders = [folder for place in places for folder in place.parents]
    return next((f for f in folders if not f.stat().st_mode & stat.S_IXOTH), None)
