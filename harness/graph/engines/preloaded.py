"""Loads what most stages need, once, in the process that workers are forked from."""

from __future__ import annotations

import gc
from contextlib import suppress
from importlib import import_module

for _name in ("harness.cli", "sparsepo.training.trainer", "tasks.models.base_model"):
    # What cannot be loaded here is an error of the stage that needs it, which is in its log.
    with suppress(Exception):
        import_module(_name)

# The libraries' half a million objects stay. Looking through them takes half a second, and every
# training collects garbage several times; it would also copy the pages that processes share.
gc.collect()
gc.freeze()
