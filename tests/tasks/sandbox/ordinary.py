"""Becoming an ordinary user in a test that root runs."""

from __future__ import annotations

import sys

from tasks.sandbox.box import namespaces

USER = 65534


def become_ordinary() -> None:
    """Become `nobody`, with a way to the interpreter; for `preexec_fn`."""
    namespaces.open_way(sys.base_prefix)
    namespaces.give_up_root(USER)
