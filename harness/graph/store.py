"""The content-addressed store: finished artefacts, work folders of unfinished ones, locks, logs.

    <store>/<address>/          a finished artefact: its files and stage.json
    <store>/partial/<address>/  the work folder of a stage that is running or was interrupted
    <store>/locks/<address>     held while an artefact is created or removed
    <store>/logs/               the output of each stage

An artefact appears by a single rename, so it is either complete or absent. stage.json contains the
hash of each file; an artefact that does not match is reported, removed and made again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.graph.files import (
    explain_disk_error,
    pretty_json,
    sha256_file,
    utc_time,
    walk_files,
)
from harness.graph.stages import Stage
from sparsepo.errors import UserError

RECORD = "stage.json"


class Store:
    """A folder of artefacts that several runs can use at the same time."""

    def __init__(self, root: Path) -> None:
        """Open a store and create missing folders.

        Args:
            root: the store's folder.

        Raises:
            UserError: it is not writable, or the disk is full.
        """
        self.root = root.absolute()
        try:
            for name in ("partial", "locks", "logs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "partial" / f".probe-{os.getpid()}"
            probe.write_bytes(b"1")
            # Two nodes of a cluster may have processes of one number.
            probe.unlink(missing_ok=True)
        except OSError as error:
            if isinstance(error, FileExistsError | NotADirectoryError):
                raise UserError(
                    f"The store {self.root} cannot be created, because a file has its name; choose "
                    "another folder with --store DIR."
                ) from None
            raise explain_disk_error(error, self.root) or UserError(
                f"The store {self.root} cannot be created ({error.strerror}); choose another "
                "folder with --store DIR or --out DIR."
            ) from None

    def folder(self, address: str) -> Path:
        """Return the folder of an artefact, which need not exist."""
        return self.root / address

    def partial(self, address: str) -> Path:
        """Return the work folder of a stage, which may contain files of an interrupted run."""
        return self.root / "partial" / address

    def log(self, name: str, address: str) -> Path:
        """Return the file for a stage's output."""
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        return self.root / "logs" / f"{safe}-{address[:12]}.log"

    @contextmanager
    def lock(self, address: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock of one artefact; the lock of a killed process is released.

        Args:
            address: the artefact's address.
            on_wait: called once if another run holds the lock.
        """
        lock = FileLock(self.root / "locks" / address)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def problem(self, address: str) -> str | None:
        """Return what is wrong with an existing artefact.

        Args:
            address: the artefact's address; its folder exists.

        Returns:
            The first difference from the record, or None if every file has the recorded hash.
        """
        folder = self.folder(address)
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            hashes = dict(record["hashes"])
            if record["address"] != address:
                return f"{RECORD} names another address"
        except FileNotFoundError:
            return f"{RECORD} is missing"
        except (ValueError, KeyError, TypeError):
            return f"{RECORD} cannot be read"
        for name, expected in hashes.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if sha256_file(path) != expected:
                return f"{name} does not have its recorded hash"
        return None

    def find(self, address: str, on_corrupt: Callable[[str], None] | None = None) -> Path | None:
        """Return a finished artefact's folder after checking its hashes.

        Args:
            address: the artefact's address.
            on_corrupt: called with the problem before a corrupted artefact is removed.

        Returns:
            The folder, or None if the artefact must be made (again).

        Raises:
            UserError: the store is not readable or writable.
        """
        folder = self.folder(address)
        if not folder.is_dir():
            return None
        try:
            if self.problem(address) is None:
                return folder
            with self.lock(address):
                # Another run may have repaired it while this one waited.
                problem = self.problem(address) if folder.is_dir() else None
                if problem is None:
                    return folder if folder.is_dir() else None
                if on_corrupt is not None:
                    on_corrupt(problem)
                self.remove(address)
                return None
        except OSError as error:
            raise explain_disk_error(error, folder) or error from None

    def record(self, address: str) -> dict[str, Any]:
        """Return the content of a finished artefact's stage.json."""
        text = (self.folder(address) / RECORD).read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        return record

    def made_at(self, address: str) -> str:
        """Return when a finished artefact was made, in UTC, such as 2026-01-31T12:00:00Z."""
        return utc_time(self.folder(address) / RECORD)

    def read_json(self, stage: Stage, name: str) -> Any:
        """Return a JSON file of a stage's finished artefact.

        Args:
            stage: a stage that is in the store.
            name: the file's name within the artefact.
        """
        return json.loads((self.folder(stage.address) / name).read_text(encoding="utf-8"))

    def begin(self, address: str, keep: bool) -> Path:
        """Prepare a stage's work folder.

        Args:
            address: the stage's address.
            keep: keep the files of an interrupted run (for stages that resume).

        Returns:
            The work folder.
        """
        work = self.partial(address)
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        return work

    def publish(self, address: str, name: str, record: Mapping[str, Any], seconds: float) -> Path:
        """Turn a work folder into the finished artefact by a single rename.

        Args:
            address: the stage's address; the caller holds its lock.
            name: the stage's display name.
            record: the data from which the address was computed.
            seconds: the duration, which is stored here and never in a result.

        Returns:
            The artefact's folder.
        """
        work, folder = self.partial(address), self.folder(address)
        (work / RECORD).unlink(missing_ok=True)
        hashes = {p.relative_to(work).as_posix(): sha256_file(p) for p in walk_files(work)}
        content = {
            "address": address,
            "name": name,
            "stage": dict(record),
            "hashes": hashes,
            "seconds": round(seconds, 3),
        }
        (work / RECORD).write_text(pretty_json(content), encoding="utf-8")
        work.rename(folder)
        return folder

    def remove(self, address: str) -> None:
        """Remove an artefact; it disappears by a single rename before its files are deleted."""
        grave = self.root / "partial" / f"removed-{address}-{os.getpid()}"
        self.folder(address).rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    def addresses(self) -> list[str]:
        """Return the addresses of all finished artefacts, sorted."""
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and len(p.name) == 64)

    def clean(self, everything: bool = False) -> tuple[int, int]:
        """Remove work folders and logs, and with ``everything`` also the artefacts.

        Anything locked by another run is left alone.

        Args:
            everything: also remove finished artefacts.

        Returns:
            (number of folders and logs removed, bytes freed).
        """
        removed = freed = 0
        doomed = sorted((self.root / "partial").iterdir())
        if everything:
            doomed += [self.folder(address) for address in self.addresses()]
        for path in doomed:
            lock = FileLock(self.root / "locks" / path.name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                freed += sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True) if path.is_file() else None
                removed += 1
            finally:
                lock.release()
        for log in sorted((self.root / "logs").iterdir()):
            freed += log.stat().st_size
            log.unlink()
            removed += 1
        return removed, freed
