"""Real nodes of Ray on this machine, for tests: each has its own daemon, agents and workers.

As a script, it starts one node, prints its address, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # On a machine that does much else, processes start and answer slowly.
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
    # A node that has died is noticed after 3 s rather than 15.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


class Nodes:
    """Nodes of one core each, the first of which is the driver's."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.add()
        self.second: Any = None

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, **has: Any) -> Any:
        """Start a node; its agents are told their ports: Ray waits for them only so long."""
        names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
        free = free_ports(len(names))
        ports = {f"{name}_port": port for name, port in zip(names, free, strict=True)}
        quiet = {"include_dashboard": False, "include_log_monitor": False}
        return self.cluster.add_node(num_cpus=1, **quiet, **ports, **has)

    def pair(self) -> None:
        """Have two nodes."""
        if self.second is None:
            self.second = self.add()

    def kill_second(self) -> None:
        """Kill all processes of the second node as a power cut would."""
        killed, self.second = self.second, None
        self.cluster.remove_node(killed, allow_graceful=False)


@contextlib.contextmanager
def local_nodes() -> Iterator[Nodes]:
    """Start one node, and end all nodes afterwards."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        # Sockets need a short path, and another test may look for a cluster in the usual folder.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
        patch.setenv("RAY_TMPDIR", folder)
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        services = ray._private.services
        patch.setattr(services, "get_node", patient(services.get_node))
        patch.setattr(services, "start_raylet", with_port_of_agent(services.start_raylet))
        nodes = Nodes()
        patch.setenv("RAY_ADDRESS", nodes.address)
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.cluster.shutdown()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def patient(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Ask until there is an answer: on a busy machine, a node needs more than Ray's 30 s."""

    def answer(*arguments: Any) -> Any:
        for _ in range(3000):
            with contextlib.suppress(RuntimeError):
                return ask(*arguments)
            time.sleep(0.1)
        return ask(*arguments)

    return answer


def with_port_of_agent(start: Callable[..., Any]) -> Callable[..., Any]:
    """Write the port of a node's agent before the node starts, which waits for it for 15 s at most.

    The other agents' ports are passed on, and not waited for.
    """
    from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port

    signature = inspect.signature(start)

    def answer(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named).arguments
        port = given["dashboard_agent_listen_port"]
        persist_port(given["session_dir"], given["node_id"], DASHBOARD_AGENT_LISTEN_PORT_NAME, port)
        return start(*arguments, **named)

    return answer


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with local_nodes() as started:
        print(started.address, flush=True)
        sys.stdin.read()
