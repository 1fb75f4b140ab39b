"""Runs one stage in a worker process, for any engine."""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from harness.graph.files import explain_disk_error
from harness.graph.stages import Progress, Stage, StageContext, load_function
from harness.graph.store import Store
from sparsepo.errors import UserError


@dataclass(frozen=True)
class Job:
    """A stage without its graph, in the form that is sent to another process."""

    name: str
    address: str
    function: str
    record: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Input name → address."""
    files: Mapping[str, str]
    threads: int
    resumable: bool
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage) -> Job:
        """Describe a stage by the addresses of its inputs."""
        return cls(
            name=stage.name,
            address=stage.address,
            function=stage.function,
            record=stage.record,
            inputs={name: needed.address for name, needed in stage.inputs.items()},
            files={name: str(path) for name, path in stage.files.items()},
            threads=stage.threads,
            resumable=stage.resumable,
            options=stage.options,
        )


class StageError(Exception):
    """A stage failed for a reason other than a mistake of the user; the text is one line."""

    address: str | None = None
    """The stage's, where the engine knows it."""


class StageUserError(UserError):
    """A stage failed because of a mistake that the user can fix."""

    address: str | None = None


def make(
    store: Store, job: Job, progress: Progress, on_wait: Callable[[], None] | None = None
) -> bool:
    """Make a stage's artefact unless another run has just made it.

    Args:
        store: the artefacts.
        job: the stage.
        progress: called with the stage's progress.
        on_wait: called once if another run is making the same artefact.

    Returns:
        True if it was made here, False if another run made it.

    Raises:
        UserError: a mistake of the user, or a full disk.
        StageError: anything else; the traceback is in the stage's log.
    """
    with store.lock(job.address, on_wait):
        if store.folder(job.address).is_dir() and store.problem(job.address) is None:
            return False
        try:
            work = store.begin(job.address, keep=job.resumable)
            started = time.monotonic()
            function = load_function(job.function)
            seed_everything(job.address)
            limit_threads(job.threads)
            function(
                StageContext(
                    name=job.name,
                    config=job.record["config"],
                    inputs={name: store.folder(a) for name, a in job.inputs.items()},
                    files={name: Path(path) for name, path in job.files.items()},
                    work=work,
                    progress=progress,
                    threads=job.threads,
                    options=job.options,
                )
            )
            store.publish(job.address, job.name, job.record, time.monotonic() - started)
        except UserError:
            raise
        except Exception as error:
            log = store.log(job.name, job.address)
            if (disk := explain_disk_error(error, store.root)) is not None:
                # Files that were not written completely must not be resumed from.
                shutil.rmtree(store.partial(job.address), ignore_errors=True)
                raise disk from None
            # The stage's own output must be in the log before the traceback.
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            with suppress(OSError), log.open("a", encoding="utf-8") as stream:
                traceback.print_exc(file=stream)
            text = " ".join(str(error).split())[:300]
            raise StageError(
                f"Stage {job.name} failed with {type(error).__name__}: {text} (details in {log})."
            ) from error
    return True


def attempt(
    store: Store, job: Job, progress: Progress, on_wait: Callable[[], None] | None = None
) -> tuple[Any, ...]:
    """Make a stage's artefact with its output in its log; return the outcome as it is sent back.

    Args:
        store: the artefacts.
        job: the stage.
        progress: called with the stage's progress.
        on_wait: called once if another run is making the same artefact.

    Returns:
        ("done", whether it was made here, seconds), ("user-error", text) or ("error", text).
    """
    started = time.monotonic()
    try:
        redirect_output(store.log(job.name, job.address))
        made = make(store, job, progress, on_wait)
    except UserError as error:
        return "user-error", str(error)
    except StageError as error:
        return "error", str(error)
    except (Exception, SystemExit) as error:
        if (disk := explain_disk_error(error, store.root)) is not None:
            return "user-error", str(disk)
        text = str(error).rstrip(".")
        return "error", f"Stage {job.name} failed with {type(error).__name__}: {text}."
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    return "done", made, time.monotonic() - started


_Error = TypeVar("_Error", StageError, StageUserError)


def of_stage(error: _Error, address: str) -> _Error:
    """Return an error that knows the stage it is from."""
    error.address = address
    return error


def raise_failure(kind: str, text: str, address: str) -> NoReturn:
    """Raise what `attempt` has returned.

    Args:
        kind: "user-error" or "error".
        text: the message.
        address: the stage's.
    """
    if kind == "user-error":
        raise of_stage(StageUserError(text), address)
    raise of_stage(StageError(text), address)


def seed_everything(address: str) -> None:
    """Seed the global random generators from a stage's address.

    Worker processes are reused; without this, a stage that does not seed would depend on the stages
    that its process ran before.

    Args:
        address: hexadecimal digits.
    """
    seed = int(address[:8], 16)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def limit_threads(threads: int) -> None:
    """Set the number of torch's threads in this process, if it uses torch."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


_MALLOC = {
    # glibc returns freed tensors to the system and is given them back as empty pages, which the
    # system has to fill with zeros: 12 to 16 % of the time of training a tiny base model.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    # PyTorch asks for aligned memory, and glibc before 2.39 keeps in these caches what it cuts off
    # to align it (its bug 30723). A freed tensor then leaves a gap that is a few bytes too small
    # for the next one of its size: docs/speed.md, "The allocator".
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}
"""Settings of glibc's allocator; other systems ignore them."""


def worker_environment() -> dict[str, str]:
    """Return the environment variables of workers: one thread, no output, memory is reused."""
    return {
        **{name: os.environ.get(name, value) for name, value in _MALLOC.items()},
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # On a busy machine, threads that wait by spinning slow each other down threefold.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # The locks of libraries outlive a worker that is terminated; the tracker would warn.
        "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
    }


def redirect_output(log: Path) -> None:
    """Redirect standard output and error, including those of C libraries, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable(file=2)
