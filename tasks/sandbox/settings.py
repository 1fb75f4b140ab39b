"""The settings of a box on this machine: the interpreter's paths, limits, command line."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from .program import Limits

_ORDINARY_USER = 65534


def box_settings(tier: str, limits: Limits, scratch: str) -> dict[str, Any]:
    """Return the settings for the launcher.

    Args:
        tier: the isolation.
        limits: the limits of programs.
        scratch: a writable folder for programs, if the tier does not provide one.
    """
    binds, links, path = _paths(limits.packages)
    inside = tier in ("namespaces", "bubblewrap")
    packages = [bind for bind in binds if bind[1].startswith("/site/")]
    return {
        "tier": tier,
        "user": _ORDINARY_USER,
        "binds": binds,
        "links": links,
        "path": [*path, "/site"] if inside else [*path, *_folders(packages)],
        "readable": [source for source, _ in binds],
        "devices": ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"],
        "scratch": "/tmp" if inside else scratch,
        "scratch_bytes": limits.scratch_bytes,
        "scratch_files": limits.scratch_files,
        "memory_bytes": limits.memory_bytes,
        "open_files": limits.open_files,
        "threads": limits.threads if inside else limits.threads + _own_threads(),
    }


def _folders(packages: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(str(Path(source).parent) for source, _ in packages))


def _paths(packages: tuple[str, ...]) -> tuple[list[list[str]], list[list[str]], list[str]]:
    """Return the interpreter's paths: binds [from, to], links [at, text] and the import path."""
    standard = sysconfig.get_path("stdlib")
    dynamic = sysconfig.get_config_var("DESTSHARED") or f"{standard}/lib-dynload"
    folders = [standard, dynamic, f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib"]
    folders += ["/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    binds: list[list[str]] = []
    links: list[list[str]] = []
    for folder in folders:
        place = Path(folder)
        if place.is_symlink() and place.parent == Path("/"):
            links.append([folder, str(place.readlink())])
            continue
        if not place.exists():
            continue
        true = str(place.resolve())
        if any(true == done or true.startswith(done + "/") for done, _ in binds):
            continue
        binds = [bind for bind in binds if not bind[0].startswith(true + "/")]
        binds.append([true, true])
    for name in packages:
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            binds.append([str(Path(location).resolve()), f"/site/{name}"])
            libraries = Path(location).parent / f"{name}.libs"
            if libraries.is_dir():
                binds.append([str(libraries.resolve()), f"/site/{name}.libs"])
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    path = [f"{Path(standard).parent}/python{version}.zip", standard, dynamic]
    return binds, links, [str(Path(entry).resolve()) for entry in path]


def _own_threads() -> int:
    """Return the user's number of threads, which count towards the limit without namespaces."""
    user, count = os.getuid(), 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == user:
                count += len(list((entry / "task").iterdir()))
        except OSError:
            continue
    return count


def bubblewrap_command(settings: dict[str, Any]) -> list[str]:
    """Return the beginning of a bubblewrap command line for the box of `settings`.

    Raises:
        FileNotFoundError: bubblewrap is not installed.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise FileNotFoundError("bwrap is not installed")
    command = [found, "--unshare-all", "--die-with-parent", "--as-pid-1", "--new-session"]
    command += ["--uid", "1000", "--gid", "1000", "--hostname", "box", "--cap-drop", "ALL"]
    for source, target in settings["binds"]:
        command += ["--ro-bind", source, target]
    for target, text in settings["links"]:
        command += ["--symlink", text, target]
    here = str(Path(__file__).parent / "box")
    interpreter = str(Path(sys.executable).resolve())
    command += ["--ro-bind", here, "/sandbox/box", "--ro-bind", interpreter, interpreter]
    for device in settings["devices"]:
        command += ["--dev-bind", device, device]
    command += ["--size", str(settings["scratch_bytes"]), "--perms", "0700", "--tmpfs", "/tmp"]
    command += ["--remount-ro", "/", "--chdir", "/tmp"]
    return command
