"""A Ray cluster as the engine sees it: the connection, the nodes, and what they can give."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sparsepo.errors import UserError

_READ_ONLY_TYPE = re.compile(r"node_[0-9a-f]+")
"""The node type that Ray's monitor makes up for a node that no autoscaler has started."""


@dataclass(frozen=True)
class Amount:
    """Cores and GPUs: of a node, or reserved for a stage."""

    cpus: float = 1.0
    gpus: float = 0.0

    def fits(self, node: Amount) -> bool:
        """Return whether a node that has nothing else to do can give this."""
        return self.cpus <= node.cpus and self.gpus <= node.gpus

    def __str__(self) -> str:
        parts = [counted(self.cpus, "core")]
        if self.gpus:
            parts.append(counted(self.gpus, "GPU"))
        return " and ".join(parts)


@dataclass(frozen=True)
class Node:
    """A living node."""

    id: str
    address: str
    has: Amount
    port: int = 0
    """Where its daemon listens."""

    @property
    def name(self) -> str:
        """What messages call it; several nodes may have one address."""
        return f"{self.address} ({self.id[:6]})"

    def answers(self) -> bool:
        """Return whether its daemon takes connections; a dead node is listed for some seconds."""
        try:
            socket.create_connection((self.address, self.port), timeout=5).close()
        except OSError:
            return False
        return True


def widest(nodes: Sequence[Node]) -> Amount:
    """Return the most cores, and the most GPUs, that any node has."""
    return Amount(
        max((node.has.cpus for node in nodes), default=0.0),
        max((node.has.gpus for node in nodes), default=0.0),
    )


def places(nodes: Sequence[Node], amount: Amount) -> int:
    """Return how many stages that reserve an amount can run at once."""
    found = 0
    for node in nodes:
        if amount.fits(node.has):
            shares = [node.has.cpus / amount.cpus] if amount.cpus else []
            shares += [node.has.gpus / amount.gpus] if amount.gpus else []
            found += int(min(shares)) if shares else 0
    return found


def living_nodes(ray: Any) -> list[Node]:
    """Return the nodes that are alive, in the order in which they are listed."""
    return [
        Node(
            entry["NodeID"],
            entry["NodeManagerAddress"],
            Amount(
                float(entry.get("Resources", {}).get("CPU", 0)),
                float(entry.get("Resources", {}).get("GPU", 0)),
            ),
            int(entry["NodeManagerPort"]),
        )
        for entry in ray.nodes()
        if entry["Alive"]
    ]


def autoscaled() -> bool | None:
    """Return whether an autoscaler can add nodes, None if the cluster does not say so yet.

    Ray has no public function for this. Its monitor runs on every head node and reports the types
    of the nodes; without an autoscaler it makes up a type for each.
    """
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    try:
        if is_autoscaler_v2():
            return _starts_nodes(_types_of_v2())
        status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
        if not status:
            return None
        report = json.loads(status).get("autoscaler_report")
    except (ValueError, OSError, RuntimeError, AssertionError):
        return None
    kinds = ("active_nodes", "idle_nodes", "pending_launches")
    types = [name for kind in kinds for name in (report or {}).get(kind) or {}]
    return _starts_nodes(types) if types else None


def _types_of_v2() -> Iterator[str]:
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    nodes = (*status.active_nodes, *status.idle_nodes, *status.pending_nodes)
    yield from (node.ray_node_type_name for node in nodes)
    yield from (launch.ray_node_type_name for launch in status.pending_launches)


def _starts_nodes(types: Iterable[str]) -> bool:
    return any(name and not _READ_ONLY_TYPE.fullmatch(name) for name in types)


def connect() -> Any:
    """Connect to the cluster that RAY_ADDRESS names, or runs here; start one if there is none.

    Returns:
        The module ``ray``.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be used.
    """
    # Ray reads these when it is imported. A run of this project reports nothing to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A refused connection is tried 20 times, with a warning each time.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    try:
        import ray
    except ImportError:
        raise UserError(
            "The engine ray is not installed; run python -m pip install -e '.[ray]', or use "
            "--engine local."
        ) from None
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    if address and "://" in address:
        raise UserError(
            f"RAY_ADDRESS is {address}, but a run must be started on a node of the cluster; give "
            "the address as HOST:PORT, or leave it out on the head node."
        )
    try:
        with _own_sigterm():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError, AssertionError) as error:
        raise UserError(_refusal(error, address)) from None
    return ray


def _refusal(error: BaseException, address: str | None) -> str:
    """Say in one sentence why there is no connection."""
    place = f"at {address}" if address else "on this machine"
    said = []
    seen: BaseException | None = error
    while seen is not None:
        said.append(str(seen))
        seen = seen.__cause__ or seen.__context__
    text = "\n".join(said)
    if re.search(r"unauthenticated|authentication|auth.?token", text, re.IGNORECASE):
        return (
            f"The Ray cluster {place} refused the connection, because this process does not have "
            "its token; set RAY_AUTH_MODE=token and give the token of the cluster by "
            "RAY_AUTH_TOKEN_PATH=FILE, or as ~/.ray/auth_token."
        )
    if "Version mismatch" in text:
        found = re.findall(r"(Ray|Python): (\S+)", text)[:4]
        versions = [f"{name} {version}" for name, version in found]
        return (
            f"The Ray cluster {place} runs {' and '.join(versions[:2])}, but this process "
            f"{' and '.join(versions[2:])}; install the same versions on both."
        )
    last = " ".join(text.split("\n")[0].split())[:200].rstrip(".")
    remedy = (
        "start one with `ray start --head`, or correct RAY_ADDRESS"
        if address
        else "run `ray stop` if a cluster has crashed here, or set RAY_ADDRESS=HOST:PORT"
    )
    return f"No connection to a Ray cluster {place} ({last}); {remedy}."


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def counted(number: float, noun: str) -> str:
    """Return a number of things, such as "2 nodes"."""
    return f"{number:g} {noun}" + ("" if number == 1 else "s")
