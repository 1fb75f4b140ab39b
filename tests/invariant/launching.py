"""Runs commands, or the worker's runs, as two processes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).parents[2]
CONFIGURATIONS = REPOSITORY / "configs" / "accelerate"


def launch(configuration: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as two processes, by accelerate and a configuration that is shipped."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")
    }
    if configuration == "deepspeed_zero2":
        # use_cpu=true would leave DeepSpeed out.
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    return subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch",
            "--config_file", str(CONFIGURATIONS / f"{configuration}.yaml"),
            "--num_processes", "2", "--num_cpu_threads_per_process", "1",
            "-m", *command,
        ],
        cwd=REPOSITORY,
        env={**environment, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )  # fmt: skip


def carried_out(
    temporary: pytest.TempPathFactory,
    configuration: str,
    runs: dict[str, dict[str, Any]],
    name: str | None = None,
) -> dict[str, Any]:
    """Return what each of two processes found in each run, and the folder they worked in.

    Where pytest itself runs in several processes, the first that asks launches for all of them.

    Args:
        temporary: makes the folder.
        configuration: of accelerate.
        runs: how to carry out each.
        name: of the folder, if it is not the configuration's.
    """
    folder = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / (name or configuration)
    spec, found = folder / "spec.json", folder / "spec.found.json"
    with FileLock(f"{folder}.lock"):
        if not spec.exists():
            folder.mkdir()
            spec.write_text(json.dumps({"by": configuration, "runs": list(runs.values())}))
            ended = launch(configuration, "tests.invariant.worker", str(spec))
            (folder / "said").write_text(ended.stderr[-4000:])
    assert found.exists(), (folder / "said").read_text()
    results: list[list[dict[str, Any]]] = json.loads(found.read_text())
    return {"folder": folder, **dict(zip(runs, results, strict=True))}
