"""What this machine offers: the cache that blocks of numbers should fit into, and its memory."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_MEMORY = Path("/proc/meminfo")
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container's limit stands, by version of cgroups."""

_USUAL_CACHE = 2**25
"""32 MB, for systems that do not say."""

_USUAL_MEMORY = 2**34
"""16 GB, for systems that do not say."""

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@functools.cache
def cache_bytes() -> int:
    """Return the size of a CPU's last level of cache."""
    sizes: dict[int, int] = {}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            kind = (folder / "type").read_text().strip()
            level = int((folder / "level").read_text())
            size = (folder / "size").read_text().strip()
            number = int(size.rstrip("KMG")) * _UNITS.get(size[-1:], 1)
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and number > 0:
            sizes[level] = number
    return sizes[max(sizes)] if sizes else _USUAL_CACHE


@functools.cache
def memory_bytes() -> int:
    """Return the memory that processes may use here: the machine's, or a container's share."""
    found = [_listed("MemTotal") or _USUAL_MEMORY]
    for file in _LIMITS:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # "max" if there is no limit
            continue
    return min(found)


def available_bytes() -> int | None:
    """Return the memory that programs can still take; None where that is not known."""
    return _listed("MemAvailable")


def _listed(name: str) -> int | None:
    """Return bytes that the system lists under a name; None if it does not."""
    try:
        lines = _MEMORY.read_text().splitlines()
        line = next(line for line in lines if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def device_bytes(device: torch.device) -> int:
    """Return the memory of an accelerator, or the machine's own for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory_bytes()
