"""A box of user, process, network, mount, IPC, UTS and cgroup namespaces, set up directly.

As root, the mounts are prepared first, and root is given up before the namespaces are created; from
then on, root and an ordinary user take the same unprivileged steps. /proc is not mounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any

from .syscalls import (
    MACHINE,
    PR_SET_DUMPABLE,
    checked,
    die_with_parent,
    fork,
    libc,
    prctl,
)

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_KEPT = 1 | 2 | 4 | 8 | 1024 | 2048 | 4096  # what statvfs reports and MS_REMOUNT accepts
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442

# Any existing folder that is not the source of a bind; the new root is mounted over it, invisible
# to all other processes.
_PLACES = ("/sys", "/proc", "/mnt", "/media", "/opt")
_DEVICES = ("null", "zero", "full", "random", "urandom")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    checked(
        f"mount {target}",
        libc.mount(
            source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
        ),
    )


def _read_only(target: str) -> None:
    """Make a bind and all mounts below it read-only, without set-user-id and devices."""
    attributes = (ctypes.c_uint64 * 4)(_RDONLY | _NOSUID | _NODEV, 0, 0, 0)
    recursive = 0x8000
    done = libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_long(-100),
        target.encode(),
        ctypes.c_ulong(recursive),
        attributes,
        ctypes.c_ulong(32),
    )
    if done < 0:  # before Linux 5.12
        kept = os.statvfs(target).f_flag & _KEPT
        _mount("", target, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV | kept)


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, target, "", _BIND | _REC)


def _lay_root(root: str, box: dict[str, Any], owner: int) -> None:
    """Mount a new root at `root`: binds of the interpreter's paths and one writable folder.

    Args:
        root: an existing folder, covered from now on.
        box: the settings; `binds` are [source, target], `links` [target, text].
        owner: the user and group number of the writable folder.
    """
    _mount("box", root, "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m,nr_inodes=2048")
    for source, target in box["binds"]:
        _bind(source, root + target)
        _read_only(root + target)
    for target, text in box["links"]:
        with contextlib.suppress(FileExistsError):
            os.symlink(text, root + target)
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            _bind(f"/dev/{name}", f"{root}/dev/{name}")
    os.makedirs(root + "/etc", exist_ok=True)
    for name, text in (
        ("passwd", "box:x:1000:1000::/tmp:/bin/false\n"),
        ("group", "box:x:1000:\n"),
    ):
        with open(f"{root}/etc/{name}", "w", encoding="ascii") as file:
            file.write(text)
    os.makedirs(root + "/tmp", exist_ok=True)
    options = f"mode=700,size={box['scratch_bytes']},nr_inodes={box['scratch_files']}"
    options += f",uid={owner},gid={owner}"
    _mount("scratch", root + "/tmp", "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)


def _enter_root(root: str) -> None:
    _mount("", root, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    number = ctypes.c_long(_PIVOT_ROOT[MACHINE])
    checked("pivot_root", libc.syscall(number, b".", b"."))
    checked("umount", libc.umount2(b".", 2))
    os.chdir("/")


def _unshare(flags: int, what: str) -> None:
    checked(what, libc.unshare(flags))


def _place(box: dict[str, Any]) -> str:
    sources = [source for source, _ in box["binds"]]
    for place in _PLACES:
        if os.path.isdir(place) and not any(s.startswith(place) for s in sources):
            return place
    raise OSError("no folder to lay the new root over")


def give_up_root(user: int) -> None:
    """Become an ordinary user permanently; for the kernel, the process still owns itself."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    prctl(PR_SET_DUMPABLE, 1)


def open_way(folder: str) -> None:
    """Let an ordinary user reach a folder below a home that only root may enter.

    Only this process and its children see an accessible folder in place of that home, which
    contains nothing but the branch that leads to `folder`.

    Raises:
        OSError: root in name only.
    """
    parts = folder.strip("/").split("/")
    for depth in range(1, len(parts)):
        outer = "/" + "/".join(parts[:depth])
        if not os.stat(outer).st_mode & 0o001:
            break
    else:
        return
    inner = f"{outer}/{parts[depth]}"
    _unshare(NEWNS, "unshare mounts as root")
    _mount("", "/", "", _REC | _PRIVATE)
    held = os.open(inner, os.O_PATH)
    _mount("opened", outer, "tmpfs", _NOSUID | _NODEV, "mode=755")
    os.mkdir(inner)
    _mount(f"/proc/self/fd/{held}", inner, "", _BIND)
    os.close(held)


def enter(box: dict[str, Any]) -> None:
    """Enter a new box; returns in its first process, while the caller's process waits outside.

    Args:
        box: the settings that the caller of the launcher sent.

    Raises:
        OSError: a step that this machine does not allow; the message names it.
    """
    root = _place(box)
    laid = False
    if os.geteuid() == 0:
        try:
            _unshare(NEWNS, "unshare mounts as root")
        except OSError:
            pass  # root in name only, as in a container: try as an ordinary user would
        else:
            _mount("", "/", "", _REC | _PRIVATE)
            _lay_root(root, box, box["user"])
            laid = True
        give_up_root(box["user"])
    user, group = os.getuid(), os.getgid()
    _unshare(NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP, "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"1000 {user} 1"),
        ("gid_map", f"1000 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    _mount("", "/", "", _REC | _PRIVATE)
    if laid:
        # Mounts of another user are locked here, but a bind of one on itself is not.
        _mount(root, root, "", _BIND | _REC)
    else:
        _lay_root(root, box, 1000)
    _enter_root(root)
    libc.sethostname(b"box", 3)
    first = fork()
    if first:
        os.close(box["channel"])
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    die_with_parent()
