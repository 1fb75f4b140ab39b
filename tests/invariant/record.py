"""Record the curves that the invariant tests follow: `python -m tests.invariant.record`.

This may be done where a change is meant to change what a training run computes: a method's
formula, the mask's initialisation, the order of the data, the recorded settings. The commit then
says why the curves moved, and by how much; this command prints it. It must not be done because a
test fails that worked before: a change without effect on the mathematics gives the recorded curve.

Nothing but the plain run is recorded: one process, float32, one micro-batch a step, no recomputed
activations.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.invariant.curves import FOLDER, RUNS, entries, recorded


def main() -> None:
    """Run each recorded run and write its curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="runs to record; all where none is named")
    names = parser.parse_args().names or list(RUNS)
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        run = RUNS[name]
        file = FOLDER / f"{name}.json"
        before = recorded(name) if file.is_file() else None
        with (
            tempfile.TemporaryDirectory() as output,
            contextlib.redirect_stdout(io.StringIO()),  # each step's log entry
        ):
            trainer = run.trainer(Path(output))
            trainer.train()
        curve = [
            {metric: float(f"{value:.9g}") for metric, value in entry.items()}
            for entry in entries(trainer)
        ]
        content = {
            "method": run.method,
            "architecture": run.architecture,
            "lora": run.lora,
            "settings": run.settings,
            "versions": {
                "python": platform.python_version(),
                **{p: version(p) for p in ("torch", "transformers", "accelerate", "peft")},
            },
            "steps": curve,
        }
        file.write_text(json.dumps(content, indent=1) + "\n")
        said = "recorded"
        if before is not None and len(before) == len(curve):
            pairs = zip(before, curve, strict=True)
            moved = max(abs(old["loss"] - new["loss"]) / abs(old["loss"]) for old, new in pairs)
            said = f"the loss moved by {moved:.1e}, relative"
        print(f"{name}: {said}; {curve[0]['loss']:.6f} to {curve[-1]['loss']:.6f}")


if __name__ == "__main__":
    main()
