"""Starts a box: reads its settings, isolates this process with the given tier, and serves.

It runs in a new interpreter, which has no access to its owner's memory, descriptors or
environment: `python -S -s -P -c "...launcher.main(DESCRIPTOR)"`.
"""

from __future__ import annotations

import contextlib
import os
import posix
import random
import socket
import sys
import tempfile
from typing import Any

from . import guard, landlock, namespaces, seccomp, wire
from .scratch import Scratch
from .syscalls import MACHINE, die_with_parent, drop_capabilities
from .zygote import Zygote


def main(descriptor: int) -> None:
    """Become the first process of a box; returns only by ending the process.

    Args:
        descriptor: the socket to the owner, which sends the settings first.
    """
    channel = socket.socket(fileno=descriptor)
    try:
        box = wire.receive_json(channel)
        box["channel"] = descriptor
        zygote = prepare(channel, box)
        wire.send_json(channel, {"ready": True, "landlock": box.get("landlock", 0)})
    except EOFError:
        posix._exit(0)
    except BaseException as error:
        wire.send_json(channel, {"error": f"{type(error).__name__}: {error}"})
        posix._exit(1)
    zygote.serve()


def through(user: int, folder: str, command: list[str]) -> None:
    """Replace this process by bubblewrap, never as root.

    Args:
        user: the user to become if this process is root.
        folder: the interpreter's folder, which that user must reach.
        command: bubblewrap's command line.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            namespaces.open_way(folder)
        namespaces.give_up_root(user)
    os.execv(command[0], command)


def prepare(channel: socket.socket, box: dict[str, Any]) -> Zygote:
    """Isolate this process with the tier in the settings.

    Raises:
        OSError: a step that this machine does not allow.
    """
    tier = box["tier"]
    own_rules = rules = None
    if tier != "unprotected" and not seccomp.supported():
        raise OSError(f"no seccomp filter for the architecture {MACHINE}")
    sys.path[:] = [path for path in box["path"] if path]
    sys.argv[:] = sys.orig_argv[:] = [""]
    os.environ.clear()
    guard.preload()
    scratch = box["scratch"]
    box["base_bytes"] = guard.address_space()
    if tier == "namespaces":
        namespaces.enter(box)
    elif tier == "landlock":
        box["landlock"] = landlock.abi()
        rules = landlock.Rules(box["readable"], box["devices"], scratch)
        own_rules = landlock.Rules([*box["readable"], "/proc"], box["devices"], scratch)
        if os.geteuid() == 0:
            held = {path: _held(path) for path in sys.path}
            namespaces.give_up_root(box["user"])
            sys.path[:] = [path if os.access(path, os.R_OK) else held[path] for path in sys.path]
        die_with_parent()
    os.umask(0o077)
    os.chdir(scratch)
    os.environ.update({"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"})
    # One thread for NumPy; the last two it would set itself, by a name that is nulled below.
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    os.environ.update(threads | {"OPENBLAS_MAIN_FREE": "1", "GOTOBLAS_MAIN_FREE": "1"})
    tempfile.tempdir = scratch
    guard.quiet_streams()
    if tier != "unprotected":
        drop_capabilities()
    if own_rules is not None:
        own_rules.lay()
        try:
            os.listdir("/proc/self/fd")
        except OSError as error:
            raise OSError(f"without /proc the scratch folder is not monitored: {error}") from None
    guard.limit(box)
    box["seccomp"] = tier != "unprotected"
    box["own_processes"] = tier in ("namespaces", "bubblewrap")
    if box["seccomp"]:
        seccomp.install(seccomp.box_filter(layers=tier == "landlock"))
    guard.null_names()
    random.seed(0)
    quota = box["scratch_bytes"] if tier in ("landlock", "unprotected") else 0
    return Zygote(channel, box, Scratch(scratch, quota), rules)


def _held(path: str) -> str:
    """Return a path to a folder that works even if its parents become inaccessible."""
    try:
        return f"/proc/self/fd/{os.open(path, os.O_PATH)}"
    except OSError:
        return path
