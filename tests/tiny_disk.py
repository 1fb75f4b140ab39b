"""A file system that is soon full, or read-only, for what happens when the disk refuses."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def tiny_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a file system of that size at a new folder; skip the test where that is not allowed."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k,mode=1777", "tmpfs", str(place)]
    try:
        done = subprocess.run(["mount", *options], capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[Path]:
    """Make a folder that may not be written: by its mode, or by its mount, which binds root too."""
    if os.geteuid() != 0:
        place.mkdir(mode=0o555)
        yield place
        return
    with tiny_disk(place, kilobytes=64):
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place
