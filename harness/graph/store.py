"""The content-addressed store: finished artefacts, work folders of unfinished ones, locks, logs.

    <store>/<address>/          a finished artefact: its files and stage.json
    <store>/partial/<address>/  the work folder of a stage that runs or was interrupted
    <store>/locks/<address>     held while a stage is made or taken away
    <store>/logs/               what each stage printed

An artefact appears by one rename, so it is there whole or not at all. stage.json holds the
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

from harness.graph.files import explain_disk_error, pretty_json, sha256_file, walk_files
from harness.graph.stages import Stage
from sparsepo.errors import UserError

RECORD = "stage.json"


class Store:
    """A folder of artefacts, safe for several runs at once."""

    def __init__(self, root: Path) -> None:
        """Open a store, making its folders where they are missing.

        Args:
            root: the store's folder.

        Raises:
            UserError: if it may not be written or the disk is full.
        """
        self.root = root.absolute()
        try:
            for name in ("partial", "locks", "logs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "partial" / f".probe-{os.getpid()}"
            probe.write_bytes(b"1")
            probe.unlink()
        except OSError as error:
            if isinstance(error, FileExistsError | NotADirectoryError):
                raise UserError(
                    f"The store {self.root} cannot be a folder, because a file is in its way; "
                    "choose another place with --store DIR."
                ) from None
            raise explain_disk_error(error, self.root) or UserError(
                f"The store {self.root} cannot be made ({error.strerror}); choose another place "
                "with --store DIR or --out DIR."
            ) from None

    def folder(self, address: str) -> Path:
        """Return where an artefact is, or would be."""
        return self.root / address

    def partial(self, address: str) -> Path:
        """Return the work folder of a stage, which an interrupted run may have left."""
        return self.root / "partial" / address

    def log(self, name: str, address: str) -> Path:
        """Return the file that a stage's output goes to."""
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        return self.root / "logs" / f"{safe}-{address[:12]}.log"

    @contextmanager
    def lock(self, address: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the right to make or remove one artefact; a killed holder's lock is free again.

        Args:
            address: the artefact's.
            on_wait: called once if another run holds it and this one has to wait.
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
        """Say what is wrong with an artefact that is there.

        Args:
            address: of an artefact whose folder exists.

        Returns:
            None if every file has the recorded hash, else the first difference.
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
            address: the artefact's.
            on_corrupt: told what was wrong before a corrupted artefact is removed.

        Returns:
            The folder, or None if it has to be made (again).

        Raises:
            UserError: if the store may not be read or written.
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
        """Return what stage.json of a finished artefact holds."""
        text = (self.folder(address) / RECORD).read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        return record

    def read_json(self, stage: Stage, name: str) -> Any:
        """Return a JSON file of a stage's finished artefact.

        Args:
            stage: in the store.
            name: of the file, within the artefact.
        """
        return json.loads((self.folder(stage.address) / name).read_text(encoding="utf-8"))

    def begin(self, address: str, keep: bool) -> Path:
        """Make a stage's work folder ready.

        Args:
            address: the stage's.
            keep: leave what an interrupted run left there (for stages that resume).

        Returns:
            The folder to work in.
        """
        work = self.partial(address)
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        return work

    def publish(self, address: str, name: str, record: Mapping[str, Any], seconds: float) -> Path:
        """Turn a work folder into the finished artefact, by one rename.

        Args:
            address: the stage's; its lock is held by the caller.
            name: the stage's name, for people.
            record: what the address was computed from.
            seconds: how long it took; kept here and never in a result.

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
        """Take an artefact away; it vanishes in one step, its files after that."""
        grave = self.root / "partial" / f"removed-{address}-{os.getpid()}"
        self.folder(address).rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    def addresses(self) -> list[str]:
        """Return the addresses of all finished artefacts, sorted."""
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and len(p.name) == 64)

    def clean(self, everything: bool = False) -> tuple[int, int]:
        """Remove work folders and logs, and with ``everything`` the artefacts too.

        What another run holds at the moment is left alone.

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
