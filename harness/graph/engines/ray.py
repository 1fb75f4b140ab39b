"""The engine for a cluster: stages run as Ray tasks with a shared store folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.graph.engines.worker import Job, StageError, make, redirect_output, worker_environment
from harness.graph.progress import Display
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.errors import UserError


class RayEngine:
    """Runs each stage as a Ray task; the store must be on a disk that all nodes share.

    Args:
        workers: number of stages that run at once; None leaves it to the cluster.
        gpus: GPUs that each stage requests.
    """

    name = "ray"

    def __init__(self, workers: int | None = None, gpus: float = 0.0) -> None:
        self.workers = workers
        self.gpus = gpus

    def run(
        self, stages: Sequence[Stage], finished: set[str], store: Store, display: Display
    ) -> None:
        """Run the stages, each after its inputs; arguments and errors as for LocalEngine.run."""
        try:
            import ray
        except ImportError:
            raise UserError(
                "The engine ray is not installed; run python -m pip install -e '.[ray]', or use "
                "--engine local."
            ) from None
        if not stages:
            return
        if not ray.is_initialized():
            environment = {"env_vars": worker_environment() | {"PYTHONPATH": ":".join(sys.path)}}
            ray.init(log_to_driver=False, runtime_env=environment)
        remote = ray.remote(max_retries=0)(_task)
        waiting, done = list(stages), set(finished)
        running: dict[Any, Stage] = {}
        try:
            while waiting or running:
                for stage in list(waiting):
                    if self.workers is not None and len(running) >= self.workers:
                        break
                    if all(needed.address in done for needed in stage.inputs.values()):
                        waiting.remove(stage)
                        options = {"num_cpus": stage.threads, "num_gpus": self.gpus}
                        task = remote.options(**options).remote(str(store.root), Job.of(stage))
                        running[task] = stage
                        display.started(stage)
                ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                display.tick()
                for task in ready:
                    stage = running.pop(task)
                    try:
                        kind, text, seconds = ray.get(task)
                    except ray.exceptions.RayError as error:
                        raise StageError(
                            f"The ray task of stage {stage.name} died ({type(error).__name__}); "
                            "run the same command again to resume."
                        ) from None
                    if kind == "user-error":
                        raise UserError(text)
                    if kind == "error":
                        raise StageError(text)
                    done.add(stage.address)
                    display.finished(stage.address, seconds, kind == "made")
        finally:
            for task in running:
                ray.cancel(task, force=True)


def _task(root: str, job: Job) -> tuple[str, str, float]:
    """Run one stage in a Ray worker; errors are returned as values to keep their text plain."""
    store = Store(Path(root))
    started = time.monotonic()
    redirect_output(store.log(job.name, job.address))
    try:
        made = make(store, job, lambda done, total, what: None)
    except UserError as error:
        return "user-error", str(error), 0.0
    except StageError as error:
        return "error", str(error), 0.0
    return "made" if made else "found", "", time.monotonic() - started
