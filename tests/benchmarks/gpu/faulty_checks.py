"""Checks that go wrong in all ways, for a process of benchmarks.gpu.worker."""

from __future__ import annotations

import os
import time

import torch

from benchmarks.gpu.finding import Finding, NotRunError, Place
from sparsepo.errors import UserError


def fine(place: Place) -> Finding:
    """Pass."""
    return Finding(f"on {place.device}, small={place.small}", {"one": 1.0})


def wrong(place: Place) -> Finding:
    """Find a fault."""
    raise AssertionError("the values differ by 0.3\nand more")


def refused(place: Place) -> Finding:
    """Meet an error with a remedy."""
    raise UserError("This cannot be; do that.")


def absent(place: Place) -> Finding:
    """Miss something on this machine."""
    raise NotRunError("there is no such thing here")


def uninstalled(place: Place) -> Finding:
    """Miss a package."""
    import no_such_package

    return Finding(str(no_such_package))


def too_large(place: Place) -> Finding:
    """Run out of the device's memory."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def device_error(place: Place) -> Finding:
    """Leave the device in a state in which nothing works any more."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nlong advice")


def crash(place: Place) -> Finding:
    """End the process without a word to its parent."""
    print("about to crash")
    os._exit(3)


def hang(place: Place) -> Finding:
    """Never return."""
    time.sleep(600)
    return Finding("late")
