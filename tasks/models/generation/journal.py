"""The journal of a sampling run: a file to which every finished batch is appended.

A line is a JSON object with the `key` of a sample, a hash of everything that determines it, and the
response. A journal may hold lines of any number of runs: whoever reads it looks for its own keys
and never sees a response of another model, prompt or setting.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from sparsepo.data.hub import is_hub_id
from sparsepo.generation.requests import Request, Response, Sampling

FORMAT = 1
"""Part of every key; increase it if samples change in any other way than by their settings."""


class Journal:
    """A journal's file; one process at a time may write to it."""

    def __init__(self, path: Path) -> None:
        """Open a journal, which need not exist; its folder must."""
        self._path = path

    def read(self, keys: Container[str]) -> dict[str, Response]:
        """Return the responses that are there, and remove a last line that was cut off.

        Args:
            keys: those of the run.

        Returns:
            Key → response. Lines that cannot be read or belong to other runs are passed over.
        """
        if not self._path.is_file():
            return {}
        with self._path.open("r+b") as stream:
            data = stream.read()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                stream.truncate(len(whole))
        found: dict[str, Response] = {}
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                key = row["key"]
                response = Response(row["end"], tuple(row["ids"]), row["text"])
            except (ValueError, KeyError, TypeError):
                continue
            if key in keys:
                found[key] = response
        return found

    def append(self, batch: Iterable[tuple[str, Response]]) -> None:
        """Append a batch's keys and responses; they are on disk when this returns."""
        lines = [
            json.dumps({"key": key, **asdict(response)}, separators=(",", ":"))
            for key, response in batch
        ]
        data = "".join(f"{line}\n" for line in lines).encode("ascii")
        with self._path.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())


def sample_keys(identity: str, requests: Sequence[Request], sampling: Sampling) -> list[str]:
    """Return the key of each sample.

    Args:
        identity: names the backend and the model.
        requests: the samples.
        sampling: how they are drawn.
    """
    settings = json.dumps([FORMAT, identity, asdict(sampling)], sort_keys=True)
    common = hashlib.blake2b(settings.encode("utf-8", "surrogatepass"), digest_size=16)
    keys = []
    for request in requests:
        own = common.copy()
        own.update(f"{request.seed}:{','.join(map(str, request.prompt))}".encode())
        keys.append(own.hexdigest())
    return keys


def model_identity(model: str | Path, dtype: str) -> str:
    """Return what identifies a model's weights: the contents of its folder, or its hub revision.

    Args:
        model: a folder, a file or a hub id.
        dtype: the weights' dtype in memory.
    """
    place = Path(model)
    if place.exists():
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                own = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(place).as_posix()}\0{own}\n".encode())
        return f"{digest.hexdigest()}\0{dtype}"
    assert is_hub_id(str(model))
    return f"{model}\0{_revision(str(model))}\0{dtype}"


def _revision(name: str) -> str:
    """Return the commit of a hub model in the local cache, or an empty text."""
    import huggingface_hub

    file = huggingface_hub.try_to_load_from_cache(name, "config.json")
    return Path(file).parent.name if isinstance(file, str) else ""
