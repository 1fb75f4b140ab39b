"""Hostile and awkward programs, run against planted secrets, servers and processes.

`python battery.py --tier NAME` prints what went wrong as JSON; the tests call `run` directly.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.sandbox import Limits, Program, Verdict, run_programs

HOSTILE = Path(__file__).parent / "hostile.jsonl"
PLACEHOLDERS = {"PAD": "# " + "p" * 77 + "\n", "FILL": "y", "ZEROS": "0"}
LIMITS = Limits(memory_bytes=512 << 20)


@dataclass
class Row:
    """One program of the battery."""

    name: str
    category: str
    candidate: str
    tests: str
    seconds: float
    accept: list[str]


@dataclass
class Planted:
    """What must not be reached, and what tells whether it was."""

    home: Path
    project: Path
    port: int
    canary: subprocess.Popen[bytes]
    connections: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """Every planted file's path, mode and contents."""
        found = hashlib.sha256()
        for root in (self.home, self.project):
            for path in sorted(root.rglob("*")):
                found.update(f"{path} {path.lstat().st_mode}\n".encode())
                if path.is_file():
                    found.update(path.read_bytes())
        return found.hexdigest()


def rows(names: set[str] | None = None) -> list[Row]:
    """The battery, or the programs of some names."""
    found = []
    for line in HOSTILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if names is None or row["name"] in names:
            keys = ("name", "category", "candidate", "tests")
            found.append(Row(*(row[k] for k in keys), row["timeout_s"], row["accept"]))
    return found


def filled(text: str, planted: Planted) -> str:
    """`text` with its placeholders filled."""
    for name, value in (
        ("HOME", planted.home),
        ("PROJ", planted.project),
        ("PORT", planted.port),
        ("HARNESS_PID", os.getpid()),
        ("CANARY_PID", planted.canary.pid),
    ):
        text = text.replace("{{" + name + "}}", str(value))
    for name, unit in PLACEHOLDERS.items():
        while (start := text.find("{{" + name + ":")) >= 0:
            end = text.index("}}", start)
            size = int(text[start:end].split(":")[1])
            text = text[:start] + (unit * (size // len(unit) + 1))[:size] + text[end + 2 :]
    return text


@contextlib.contextmanager
def plant(folder: Path) -> Iterator[Planted]:
    """Plant secrets, servers and a sleeping process; take them away afterwards."""
    servers = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    _bind_alone(servers[2], "\0sbxcanary")
    home, project = folder / "home", folder / "project"
    (home / ".ssh").mkdir(parents=True)
    project.mkdir()
    (home / ".ssh" / "id_rsa").write_text("PLANTED KEY")
    (home / ".bashrc").write_text("# PLANTED")
    (project / "data.txt").write_text("PLANTED DATA")
    os.environ["SBX_SECRET"] = "PLANTED SBX_SECRET"
    inherited = os.open(project / "data.txt", os.O_RDWR)
    os.set_inheritable(inherited, True)
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    servers[0].bind(("127.0.0.1", 0))
    port = servers[0].getsockname()[1]
    datagrams.bind(("127.0.0.1", port))
    servers[1].bind(str(project / "sock"))
    (project / "sock").chmod(0o777)
    canary = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    planted = Planted(home, project, port, canary)

    def listen(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                planted.connections.append(str(server.getsockname()))
                connection.close()

    def receive() -> None:
        with contextlib.suppress(OSError):
            while datagrams.recv(1024) is not None:
                planted.connections.append("datagram")

    for server in servers:
        server.listen()
        threading.Thread(target=listen, args=(server,), daemon=True).start()
    threading.Thread(target=receive, daemon=True).start()
    try:
        yield planted
    finally:
        for server in (*servers, datagrams):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        os.close(inherited)
        os.environ.pop("SBX_SECRET", None)
        planted.canary.kill()
        planted.canary.wait()


def _bind_alone(server: socket.socket, name: str) -> None:
    """Take the machine's only socket of a name; another battery's is waited for."""
    deadline = time.monotonic() + 600
    while True:
        try:
            server.bind(name)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Have this process and its children make their temporary files in a folder."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    try:
        yield
    finally:
        tempfile.tempdir = None
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def processes() -> set[int]:
    """The numbers of all processes that this one can see."""
    return {int(entry.name) for entry in Path("/proc").glob("[0-9]*")}


def descendants() -> set[int]:
    """Processes that came from this one's session or name it as their parent."""
    own = os.getpid()
    parents = {number: _parent(number) for number in processes()}
    found, fresh = set(), {own}
    while fresh:
        fresh = {n for n, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


OUTSIDE = ("/tmp/evil_tmp", "/dev/shm/evil_shm", "/var/tmp/evil_vt", "/tmp/left_a")


def run(
    tier: str | None,
    folder: Path,
    *,
    names: set[str] | None = None,
    confirm: bool = True,
    workers: int = 1,
) -> tuple[list[str], list[Verdict]]:
    """Run the battery; return what went wrong, and the verdicts.

    Args:
        tier: the isolation.
        folder: an empty folder to plant in.
        names: only the programs of these names.
        confirm: as in `run_programs`.
        workers: boxes at once; with one, the groups' order holds.
    """
    wrong = []
    chosen = rows(names)
    temporary = folder / "temporary"
    temporary.mkdir()
    seen: set[int] = set()
    with temporary_files_in(temporary), plant(folder) as planted:
        before = processes()
        digest = planted.digest()
        programs = [
            Program(
                row.name,
                filled(row.candidate, planted),
                filled(row.tests, planted),
                seconds=row.seconds,
            )
            for row in chosen
        ]
        verdicts = []
        last = time.monotonic()
        for row, verdict in zip(
            chosen,
            run_programs(programs, tier=tier, workers=workers, limits=LIMITS, confirm=confirm),
            strict=True,
        ):
            verdicts.append(verdict)
            seen |= descendants()
            word = {"passed": "pass", "timeout": "timeout"}.get(verdict.outcome, "fail")
            if word not in row.accept or verdict.id != row.name:
                wrong.append(f"{row.name}: {verdict.outcome} ({verdict.detail})")
            if planted.digest() != digest:
                wrong.append(f"{row.name}: planted files changed")
                digest = planted.digest()
            if planted.connections:
                wrong.append(f"{row.name}: reached {planted.connections.pop()}")
            if planted.canary.poll() is not None:
                wrong.append(f"{row.name}: the canary process has ended")
                planted.canary = subprocess.Popen(["sleep", "3600"])
            for path in OUTSIDE:
                if Path(path).exists():
                    wrong.append(f"{row.name}: left {path}")
                    Path(path).unlink()
            now = time.monotonic()
            if now - last > 3 * row.seconds + 10:
                wrong.append(f"{row.name}: took {now - last:.1f} s")
            last = now
        # What was there before, such as multiprocessing's resource tracker, is no box's.
        left = descendants() - before - {planted.canary.pid}
        if left:
            wrong.append(f"processes left: {sorted(left)}")
    strays = [
        number
        for number in processes() - before
        if b"box.launcher" in _command(number)
        and number not in left
        and (number in seen or _parent(number) == 1)
    ]
    # Another test's box, whose parent has just ended, is about to be ended by the kernel.
    deadline = time.monotonic() + 2
    while strays and time.monotonic() < deadline:
        time.sleep(0.05)
        strays = [number for number in strays if b"box.launcher" in _command(number)]
    if strays:
        wrong.append(f"boxes left: {strays}")
    if leftovers := list(temporary.iterdir()):
        wrong.append(f"left in TMPDIR: {leftovers}")
    return wrong, verdicts


def _parent(number: int) -> int:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{number}/stat").read_text()
        return int(text.rpartition(")")[2].split()[1])
    return 0


def _command(number: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes()
    return b""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tier")
    parser.add_argument("--names")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-confirm", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found, reached = run(
            options.tier,
            Path(place),
            names=set(options.names.split(",")) if options.names else None,
            confirm=not options.no_confirm,
            workers=options.workers,
        )
    counts: dict[str, int] = {}
    for verdict in reached:
        counts[verdict.outcome] = counts.get(verdict.outcome, 0) + 1
    forged = [verdict.id for verdict in reached if verdict.suspected_forgery]
    tier = reached[0].tier if reached else None
    print(json.dumps({"tier": tier, "counts": counts, "wrong": found, "forged": forged}))
