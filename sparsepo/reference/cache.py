"""The reference's log-probabilities on disk: computed once, then read by every run that needs them.

    <directory>/<fingerprint>/fingerprint.json   the fingerprint's data in plain text
    <directory>/<fingerprint>/part-<name>/       some pairs: index.json and values.safetensors
    <directory>/complete                         nothing may be added, see `seal`

A part is written to a temporary folder, synchronised, renamed, and never changed afterwards. It is
either complete or absent, even if processes are killed or several of them compute the same pairs.
Its name is a hash of its pairs and value names, so duplicate parts are stored once. A cache grows
by adding parts. The format is documented in docs/reference_cache.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sparsepo.batches.pack import lay_out
from sparsepo.errors import UserError, first_line
from sparsepo.methods.base import Method
from sparsepo.reference.fingerprint import digest, pair_hash
from sparsepo.reference.online import mask_settings
from sparsepo.types import PackedBatch, TokenizedPair

FORMAT = 1
"""Version of the format; changing it invalidates every cache."""

PART_PAIRS = 1024
"""Pairs per part, the most that an interruption can lose."""

LOGPS = "logps"
"""The name of log π_ref(y_t); for the name of a mask see `mask_name`."""

_FINGERPRINT, _INDEX, _VALUES, _COMPLETE = (
    "fingerprint.json",
    "index.json",
    "values.safetensors",
    "complete",
)
_SIDES = ("chosen", "rejected")
_WRITING = re.compile(r"\.writing-(?P<host>.+)-(?P<process>\d+)")
_NAMED_IDS = 5

Key = tuple[str, str]
"""A pair's id and the hash of its tokens."""
SideValues = tuple[Tensor, Tensor]
"""One value per token of a pair's chosen and of its rejected response."""


def key_of(pair: TokenizedPair) -> Key:
    """Return a pair's key: its id and the hash of its tokens, which detects an edited row."""
    return pair.pair_id, pair_hash(pair)


def mask_name(method: Method) -> str:
    """Return the name under which a method's activation mask is stored."""
    families, mapping = mask_settings(method)
    return f"mask:{'+'.join(sorted(set(families)))}:{mapping}"


@dataclass(frozen=True)
class _Part:
    """One immutable folder of a cache."""

    folder: Path
    names: tuple[str, ...]
    rows: Mapping[Key, int]
    lengths: tuple[tuple[int, ...], tuple[int, ...]]
    """Tokens of each pair's response, chosen and rejected."""
    sha256: str

    @classmethod
    def open(cls, folder: Path) -> _Part:
        """Read a part's index.

        Raises:
            UserError: it cannot be read.
        """
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            keys = list(zip(index["pair_ids"], index["tokens"], strict=True))
            lengths = tuple(tuple(map(int, index["lengths"][side])) for side in _SIDES)
            if not all(len(keys) == len(side) for side in lengths):
                raise ValueError("its columns have different lengths")
            rows = {(str(one), str(two)): row for row, (one, two) in enumerate(keys)}
            return cls(folder, tuple(index["values"]), rows, lengths, str(index["sha256"]))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, _INDEX, first_line(error)) from error

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The part's values: `<name>/<side>` → flat over its pairs, `offsets/<side>` → bounds.

        Raises:
            UserError: the file differs from what was written.
        """
        try:
            data = (self.folder / _VALUES).read_bytes()
            if hashlib.sha256(data).hexdigest() != self.sha256:
                raise ValueError("its hash differs from the recorded one")
            tensors: dict[str, Tensor] = load(data)
            for side, lengths in zip(_SIDES, self.lengths, strict=True):
                total = sum(lengths)
                shapes = {name: tuple(tensors[f"{name}/{side}"].shape) for name in self.names}
                if any(shape != (total,) for shape in shapes.values()):
                    raise ValueError("its lengths differ from those in its index")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise _damaged(self.folder, _VALUES, first_line(error)) from error
        return tensors

    def values(self, name: str, row: int, side: int) -> Float[Tensor, " tokens"]:
        """Return one response's values."""
        bounds = self.tensors[f"offsets/{_SIDES[side]}"]
        return self.tensors[f"{name}/{_SIDES[side]}"][int(bounds[row]) : int(bounds[row + 1])]


def _damaged(folder: Path, name: str, why: str) -> UserError:
    return UserError(
        f"The reference cache's file {folder / name} is damaged ({why}); delete the folder "
        f"{folder} and run the same command again to recompute it."
    )


class CachedValues:
    """A cache's values of a set of pairs, looked up by pair id."""

    def __init__(self, places: Mapping[str, Mapping[str, tuple[_Part, int]]]) -> None:
        """Take value name → pair id → (part, row)."""
        self._places = places

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values available for every pair."""
        return tuple(self._places)

    def read(self, name: str, batch: PackedBatch) -> Float[Tensor, "responses pairs tokens"]:
        """Return a batch's values on its device, zero on padding.

        Args:
            name: one of `names`.
            batch: a batch of pairs that were selected.
        """
        parts = [self._places[name][pair_id] for pair_id in batch.pair_ids]
        dtype = parts[0][0].tensors[f"{name}/{_SIDES[0]}"].dtype
        rows = [(part.values(name, row, 0), part.values(name, row, 1)) for part, row in parts]
        return lay_out(rows, batch, dtype)


class ReferenceCache:
    """The parts of one fingerprint, in a folder that several runs and processes may share."""

    def __init__(self, directory: str | Path, fingerprint: Mapping[str, Any]) -> None:
        """Open a cache; nothing is written yet.

        Args:
            directory: the user's folder; it need not exist.
            fingerprint: of `sparsepo.reference.fingerprint.reference_fingerprint`.

        Raises:
            UserError: a part cannot be read.
        """
        self.fingerprint = {"format": FORMAT, **fingerprint}
        self.directory = Path(directory)
        self.folder = self.directory / digest(self.fingerprint)
        self._parts: dict[str, _Part] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read parts that any process has added since the last call."""
        found = self.folder.glob("part-*") if self.folder.is_dir() else ()
        for folder in sorted(found):
            if folder.name not in self._parts:
                self._parts[folder.name] = _Part.open(folder)

    def missing(
        self, pairs: Sequence[TokenizedPair], names: Collection[str]
    ) -> list[TokenizedPair]:
        """Return the pairs that lack any of the named values, each once, in order."""
        have = {
            name: {key for part in self._parts.values() if name in part.names for key in part.rows}
            for name in names
        }
        lacking = {
            key: pair
            for pair in pairs
            if any((key := key_of(pair)) not in keys for keys in have.values())
        }
        return list(lacking.values())

    def select(
        self, pairs: Sequence[TokenizedPair], names: Collection[str], remedy: str
    ) -> CachedValues:
        """Return the named values of these pairs, to be read batch by batch.

        Args:
            pairs: the pairs.
            names: the names of the values.
            remedy: what to do if some are missing, as part of a sentence.

        Raises:
            UserError: some are missing (the first few are named), two pairs share an id, or a file
                is damaged.
        """
        lacking = self.missing(pairs, names)
        if lacking:
            raise UserError(
                f"{self._describe_missing(lacking, len(pairs))}; {remedy}, or leave out "
                "reference_cache."
            )
        keys: dict[str, Key] = {}
        for pair in pairs:
            key = key_of(pair)
            if keys.setdefault(pair.pair_id, key) != key:
                raise UserError(
                    f"Two pairs have the id {pair.pair_id}, but the reference cache identifies "
                    "pairs by id; give each pair a unique id."
                )
        places: dict[str, dict[str, tuple[_Part, int]]] = {name: {} for name in names}
        for _, part in sorted(self._parts.items(), reverse=True):
            for name in set(names) & set(part.names):
                found = {one: part.rows[key] for one, key in keys.items() if key in part.rows}
                if found:
                    part.tensors  # noqa: B018  # report a damaged file before training
                    places[name].update({one: (part, row) for one, row in found.items()})
        return CachedValues(places)

    def _describe_missing(self, lacking: Sequence[TokenizedPair], total: int) -> str:
        named = ", ".join(pair.pair_id for pair in lacking[:_NAMED_IDS])
        more = f" and {len(lacking) - _NAMED_IDS} more" if len(lacking) > _NAMED_IDS else ""
        text = (
            f"The reference cache {self.directory} lacks {len(lacking)} of {total} pairs "
            f"({named}{more})"
        )
        others = self._closest_difference() if not self._parts else None
        return text if others is None else f"{text}: its values were computed with {others}"

    def _closest_difference(self) -> str | None:
        """Return the difference from the closest other fingerprint in the folder, if any."""
        found = []
        for file in self.directory.glob(f"*/{_FINGERPRINT}"):
            with contextlib.suppress(OSError, ValueError):
                other = json.loads(file.read_text(encoding="utf-8"))
                keys = sorted(self.fingerprint.keys() | other.keys())
                found.append([k for k in keys if self.fingerprint.get(k) != other.get(k)])
        different = (f"different {', '.join(keys)}" for keys in found if keys)
        return min(different, key=len, default=None)

    def begin(self, lacking: Sequence[TokenizedPair], total: int) -> None:
        """Prepare the folder for writing, before anything is computed.

        Args:
            lacking: the pairs to be added, to name them in an error.
            total: the number of pairs of the run.

        Raises:
            UserError: the cache is sealed or cannot be written to.
        """
        if (self.directory / _COMPLETE).exists():
            raise UserError(
                f"{self._describe_missing(lacking, total)}, and it is marked as complete; set "
                "reference_cache to another folder."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            text = json.dumps(self.fingerprint, indent=1, sort_keys=True) + "\n"
            staging = self._staging_folder()
            _write_synced(staging / _FINGERPRINT, text.encode())
            (staging / _FINGERPRINT).replace(self.folder / _FINGERPRINT)
            shutil.rmtree(staging)
        except OSError as error:
            raise self._unwritable(error, self._describe_missing(lacking, total)) from error

    def holds(self, pairs: Sequence[TokenizedPair], names: Collection[str]) -> bool:
        """Return whether the part that `write` would create for these pairs exists."""
        return (self.folder / _part_name(pairs, names)).is_dir()

    def write(
        self, pairs: Sequence[TokenizedPair], values: Mapping[str, Sequence[SideValues]]
    ) -> None:
        """Add a part atomically.

        Args:
            pairs: the pairs of the part.
            values: name → for each pair one value per token of its two responses.

        Raises:
            UserError: the disk is full or cannot be written to.
        """
        tensors: dict[str, Tensor] = {}
        lengths: dict[str, list[int]] = {}
        responses = ([pair.chosen_ids for pair in pairs], [pair.rejected_ids for pair in pairs])
        for number, (side, ids) in enumerate(zip(_SIDES, responses, strict=True)):
            lengths[side] = [len(one) for one in ids]
            tensors[f"offsets/{side}"] = torch.tensor([0, *lengths[side]]).cumsum(0)
            for name, rows in values.items():
                tensors[f"{name}/{side}"] = torch.cat([row[number] for row in rows])
        data = save(tensors)
        index = {
            "values": sorted(values),
            "pair_ids": [pair.pair_id for pair in pairs],
            "tokens": [pair_hash(pair) for pair in pairs],
            "lengths": lengths,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        target = self.folder / _part_name(pairs, values)
        staging: Path | None = None
        try:
            staging = self._staging_folder()
            _write_synced(staging / _VALUES, data)
            _write_synced(staging / _INDEX, (json.dumps(index) + "\n").encode())
            _synchronise(staging)
            try:
                staging.rename(target)
            except OSError:
                # Another process was faster; its part has the same content.
                if not target.is_dir():
                    raise
            _synchronise(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            if staging is not None:
                shutil.rmtree(staging, ignore_errors=True)
        self.refresh()

    def _staging_folder(self) -> Path:
        """Create this process's temporary folder for incomplete parts."""
        staging = self.folder / f".writing-{socket.gethostname()}-{os.getpid()}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        return staging

    def _remove_leftovers(self) -> None:
        """Remove temporary folders of processes on this machine that were killed while writing."""
        for folder in self.folder.glob(".writing-*"):
            named = _WRITING.fullmatch(folder.name)
            if named and named["host"] == socket.gethostname() and not _runs(int(named["process"])):
                shutil.rmtree(folder, ignore_errors=True)

    def _unwritable(self, error: OSError, lacks: str | None = None) -> UserError:
        why = os.strerror(error.errno) if error.errno else first_line(error)
        return UserError(
            f"{lacks + ', and n' if lacks else 'N'}othing can be written to the reference cache "
            f"{self.directory} ({why}); free some space or set reference_cache to another folder."
        )


def seal(directory: Path) -> None:
    """Mark a cache as complete: from now on missing values are an error and none are added."""
    (directory / _COMPLETE).touch()


def _part_name(pairs: Sequence[TokenizedPair], names: Collection[str]) -> str:
    return f"part-{digest([[key_of(pair) for pair in pairs], sorted(names)])[:32]}"


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _synchronise(folder: Path) -> None:
    """Synchronise a folder, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
