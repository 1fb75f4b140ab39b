"""Becoming an ordinary user in a test that root runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tasks.sandbox.box import namespaces

USER = 65534


def become_ordinary() -> None:
    """Become `nobody`; for `preexec_fn`.

    Where the interpreter lies below a home that only root may enter, this process and its
    children see an open folder in that home's place, with only the interpreter's branch in it.
    """
    locked = [
        folder
        for folder in reversed(Path(sys.base_prefix).parents)
        if not folder.stat().st_mode & 0o001
    ]
    if locked:
        outer = locked[0]
        inner = outer / Path(sys.base_prefix).relative_to(outer).parts[0]
        namespaces._unshare(namespaces.NEWNS, "unshare")
        namespaces._mount("", "/", "", namespaces._REC | namespaces._PRIVATE)
        held = os.open(inner, os.O_PATH)
        namespaces._mount("opened", str(outer), "tmpfs", 0, "mode=755")
        inner.mkdir()
        namespaces._mount(f"/proc/self/fd/{held}", str(inner), "", namespaces._BIND)
        os.close(held)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
