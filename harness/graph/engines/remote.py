"""What runs on the nodes of a Ray cluster: a stage, and the board that takes its progress."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.graph.engines.worker import Job, attempt
from harness.graph.store import RECORD, Store
from sparsepo.errors import UserError

REPORT_EVERY = 0.5
"""Seconds between two reports of a stage's progress."""

VISIBLE_AFTER = 120
"""Half seconds that a network disk may take to show what another node has written."""

Outcome = tuple[Any, ...]
"""See `harness.graph.engines.worker.attempt`."""


class Board:
    """Collects the messages of running stages for the driver; a Ray actor on the driver's node."""

    def __init__(self) -> None:
        self._messages: list[tuple[Any, ...]] = []

    def report(self, *message: Any) -> None:
        """Keep a message: address, number of the attempt, kind, and what belongs to it."""
        self._messages.append(message)

    def take(self) -> list[tuple[Any, ...]]:
        """Return the messages since the last call."""
        taken, self._messages = self._messages, []
        return taken


def entry() -> Callable[..., Outcome]:
    """Return the function that Ray runs on a node.

    It is made here because Ray sends such a function by value: it can therefore say in one sentence
    that a node lacks the store or the project, which a function of the project could not.
    """

    def run_on_node(node: dict[str, Any], board: Any, number: int, job: bytes) -> Outcome:
        import importlib
        import os
        import time
        from pathlib import Path

        import ray

        own = ray.get_runtime_context().get_node_id()
        where = f"{ray.util.get_node_ip_address()} ({own[:6]})"
        marker = Path(node["marker"])
        # A shared disk may show a new file late.
        for _ in range(node["patience"]):
            if marker.exists():
                break
            time.sleep(0.5)
        else:
            return (
                "user-error",
                f"Node {where} does not have the store {node['store']}; put the store on a disk "
                "that all nodes share, with --store DIR or SPARSEPO_STORE.",
            )
        try:
            remote = importlib.import_module("harness.graph.engines.remote")
        except ImportError as error:
            return (
                "user-error",
                f"Node {where} cannot import the project ({error}); put the clone and its Python "
                "environment on all nodes, under the same path.",
            )
        # Options and files may be named relative to where the command was run.
        if Path(node["folder"]).is_dir():
            os.chdir(node["folder"])
        outcome: Outcome = remote.run_stage(own, where, node["store"], board, number, job)
        return outcome

    return run_on_node


def appears(file: Path) -> bool:
    """Wait for a file that another node has written: a network disk may show it late."""
    for _ in range(VISIBLE_AFTER):
        if file.exists():
            return True
        # Reading a folder has the system ask the server again.
        with suppress(OSError):
            list(file.parent.parent.iterdir())
        time.sleep(0.5)
    return file.exists()


def run_stage(own: str, where: str, root: str, board: Any, number: int, job: bytes) -> Outcome:
    """Run one stage on this node.

    Args:
        own: the node's id.
        where: what messages call the node.
        root: the store's folder.
        board: the actor that takes reports.
        number: counts the attempts to run this stage.
        job: a pickled `Job`.

    Returns:
        The outcome; errors are values because Ray would wrap their texts in tracebacks.
    """
    described: Job = pickle.loads(job)

    def report(kind: str, *content: Any) -> None:
        board.report.remote(described.address, number, kind, *content)

    report("started", own)
    last = [0.0]

    def progress(done: float, total: float, what: str) -> None:
        now = time.monotonic()
        if now - last[0] >= REPORT_EVERY or done >= total:
            last[0] = now
            report("progress", done, total, what)

    try:
        store = Store(Path(root))
    except UserError as error:
        return "user-error", f"On node {where}: {error}"
    for address in described.inputs.values():
        if not appears(store.folder(address) / RECORD):
            return "error", (
                f"Node {where} does not see {store.folder(address)}, which another node has made; "
                "check the disk that they share, and run the same command again."
            )
    return attempt(store, described, progress, lambda: report("waiting"))
