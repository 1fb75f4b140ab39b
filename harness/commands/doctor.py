"""``python -m harness doctor``: whether this machine can run what the profiles need."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from harness.graph.store import Store
from sparsepo.errors import UserError
from tasks.sandbox import available_tiers

_ROOT = Path(__file__).parents[2]
_NEEDED_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    text: str
    """What was found, and the remedy if it is not ok."""
    required: bool = True


def diagnose(store: Path) -> Iterator[Check]:
    """Check Python, packages, torch, isolation, disk and store; the network is not checked.

    Args:
        store: the store that runs would use.

    Yields:
        The checks, one by one.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", sys.version_info >= (3, 11), f"{version} (3.11 or later is needed)")
    for requirement, extra in requirements():
        yield _package(requirement, extra)
    yield _torch()
    yield _cores()
    yield _isolation()
    yield _disk(store)
    yield _store(store)


def requirements() -> list[tuple[Requirement, str | None]]:
    """Return the requirements that the clone's pyproject.toml declares, each with its extra."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {None: project["dependencies"], **project["optional-dependencies"]}
    found = [(Requirement(line), extra) for extra, lines in declared.items() for line in lines]
    # An extra may name another of the project's own.
    return [(each, extra) for each, extra in found if each.name != project["name"]]


def _package(requirement: Requirement, extra: str | None) -> Check:
    # Training and the experiments need these; the other extras are optional.
    required = extra in (None, "harness")
    name = requirement.name if extra is None else f"{requirement.name} [{extra}]"
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        if required:
            return Check(name, False, f"missing: {remedy}")
        return Check(name, False, f"not installed: pip install -e '.[{extra}]'", False)
    try:
        fits = requirement.specifier.contains(version.split("+")[0], prereleases=True)
    except InvalidVersion:
        fits = False
    if fits:
        return Check(name, True, version, required)
    return Check(name, False, f"{version} is not {requirement.specifier}: {remedy}", required)


def _torch() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("torch loads", False, f"no ({error}): reinstall torch")
    if torch.cuda.is_available():
        names = ", ".join(
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        )
        return Check("accelerator", True, f"CUDA {torch.version.cuda}: {names}", False)
    return Check(
        "accelerator",
        True,
        "none: the profiles tiny and laptop run on the CPU, the others need a GPU",
        False,
    )


def _cores() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("processor cores", True, str(count), False)


def _isolation() -> Check:
    """Only code generation runs model-generated programs; other runs need no isolation."""
    tiers = available_tiers()
    working = [name for name, trouble in tiers.items() if not trouble]
    name = "isolation of programs"
    if not working:
        reasons = "; ".join(f"{tier}: {trouble}" for tier, trouble in tiers.items())
        remedy = "apt install bubblewrap, or use a kernel with user namespaces or Landlock"
        return Check(name, False, f"none works ({reasons}): {remedy}", False)
    text = ", ".join(working)
    if working[0] == "landlock":
        text += "; stronger with bubblewrap: apt install bubblewrap"
    return Check(name, True, text, False)


def _disk(store: Path) -> Check:
    place = store.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free at {place}"
    if free < _NEEDED_BYTES:
        text += ": free some, or choose another place with --store DIR"
    return Check("disk space", free >= _NEEDED_BYTES, text)


def _store(store: Path) -> Check:
    if not store.exists():
        # The check must not create anything; the nearest existing folder decides.
        place = store.absolute()
        while not place.exists():
            place = place.parent
        ok = os.access(place, os.W_OK | os.X_OK)
        text = f"{store} will be created" if ok else f"may not write {place}: choose --store DIR"
        return Check("store", ok, text)
    try:
        opened = Store(store)
    except UserError as error:
        return Check("store", False, str(error))
    return Check("store", True, f"{store} is writable, {len(opened.addresses())} artefacts")
