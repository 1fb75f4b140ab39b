"""A process that runs checks on request, one after another, and survives those that fail.

It answers each input line, a JSON description of a check, with one JSON line. A crash, a hang or
a device in an error state ends the process; benchmarks.gpu.processes then starts another one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any, TextIO

DEVICE_ERRORS = ("CUDA error", "device-side assert", "AcceleratorError", "CUDA driver error")
"""After an error with one of these words every further call of the device fails."""


def main() -> None:
    """Tell what the machine is, then run checks until the input ends."""
    # Output of libraries must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    _answer(answers, machine())
    for line in sys.stdin:
        request = json.loads(line)
        found, ended = run(request)
        _answer(answers, {**found, "ended": ended})
        if ended:
            # Without the interpreter's clean-up, which may hang on a device in an error state.
            os._exit(1)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def machine() -> dict[str, Any]:
    """Return what is known of the GPU; {"cuda": False} where there is none."""
    import torch

    if not torch.cuda.is_available():
        return {"cuda": False}
    found = torch.cuda.get_device_properties(0)
    return {
        "cuda": True,
        "GPU": found.name,
        "memory": found.total_memory,
        "capability": f"{found.major}.{found.minor}",
        "CUDA": str(torch.version.cuda),
        "float32": torch.get_float32_matmul_precision(),
    }


def run(request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Run a check; return its answer, and whether the process must end.

    Args:
        request: `check`, as module:function; `device`, `small` and `seconds`, as in Place.
    """
    from benchmarks.gpu.finding import Place

    module, _, name = request["check"].partition(":")
    place = Place(request["device"], request["small"], request["seconds"])
    try:
        found = getattr(import_module(module), name)(place)
    except Exception as error:
        return _failure(error), any(word in _description(error) for word in DEVICE_ERRORS)
    return {"verdict": found.verdict, "text": found.text, "figures": found.figures}, False


def _failure(error: Exception) -> dict[str, Any]:
    import torch

    from benchmarks.gpu.finding import NotRunError
    from sparsepo.errors import UserError, first_line

    answer: dict[str, Any] = {"verdict": "failed", "figures": {}}
    if isinstance(error, NotRunError):
        return {**answer, "verdict": "not run", "text": str(error)}
    if isinstance(error, ModuleNotFoundError):
        return {**answer, "verdict": "not run", "text": f"{error.name} is not installed"}
    if isinstance(error, torch.OutOfMemoryError):
        peak = torch.cuda.max_memory_allocated() / 2**30
        answer["text"] = f"out of memory, with {peak:.1f} GiB allocated at most"
    elif isinstance(error, AssertionError | UserError):
        answer["text"] = first_line(error).rstrip(".")
    else:
        answer["text"] = _description(error)
    answer["traceback"] = traceback.format_exc().splitlines()[-30:]
    return answer


def _description(error: Exception) -> str:
    from sparsepo.errors import first_line

    return f"{type(error).__name__}: {first_line(error)}"


def _answer(answers: TextIO, found: dict[str, Any]) -> None:
    print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
