"""The reference's log-probabilities on disk: computed once, read by every run that asks for them.

    <directory>/<fingerprint>/fingerprint.json   what the fingerprint was made of, in clear
    <directory>/<fingerprint>/part-<name>/       some pairs: index.json and values.safetensors
    <directory>/complete                         nothing is added any more, see `seal`

A part is written apart, synchronised and then renamed, and never changed afterwards: it is there
whole or not at all, whoever is killed and however many processes compute the same. Its name is a
hash of the pairs and values that it holds, so that of two equal parts one is kept. A cache grows by
further parts. The format is documented in docs/reference_cache.md.
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

from sparsepo.errors import UserError, first_line
from sparsepo.methods.base import Method
from sparsepo.reference.fingerprint import digest, pair_hash
from sparsepo.reference.online import mask_settings
from sparsepo.types import PackedBatch, TokenizedPair

FORMAT = 1
"""Version of the files; a change of it starts every cache again."""

PART_PAIRS = 1024
"""Pairs of a part: what an interruption loses at most."""

LOGPS = "logps"
"""The name of log π_ref(y_t); a mask's is `mask_name`."""

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
    """Return by what a pair is known: its id, and its tokens, so that an edited row is noticed."""
    return pair.pair_id, pair_hash(pair)


def mask_name(method: Method) -> str:
    """Return the name under which the activation mask of a method is kept."""
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
                raise ValueError("its columns differ in length")
            rows = {(str(one), str(two)): row for row, (one, two) in enumerate(keys)}
            return cls(folder, tuple(index["values"]), rows, lengths, str(index["sha256"]))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, _INDEX, first_line(error)) from error

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The part's values, `<name>/<side>` → flat over its pairs, `offsets/<side>` → bounds.

        Raises:
            UserError: the file is not the one that was written.
        """
        try:
            data = (self.folder / _VALUES).read_bytes()
            if hashlib.sha256(data).hexdigest() != self.sha256:
                raise ValueError("it does not have its recorded hash")
            tensors: dict[str, Tensor] = load(data)
            for side, lengths in zip(_SIDES, self.lengths, strict=True):
                total = sum(lengths)
                shapes = {name: tuple(tensors[f"{name}/{side}"].shape) for name in self.names}
                if any(shape != (total,) for shape in shapes.values()):
                    raise ValueError("its lengths are not those of its index")
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
        f"{folder} and run the same command again, which computes it again."
    )


class CachedValues:
    """What a cache holds of a set of pairs, found by pair id alone."""

    def __init__(self, places: Mapping[str, Mapping[str, tuple[_Part, int]]]) -> None:
        """Take value name → pair id → (part, row)."""
        self._places = places

    @property
    def names(self) -> tuple[str, ...]:
        """The values that are there for every pair."""
        return tuple(self._places)

    def read(self, name: str, batch: PackedBatch) -> Float[Tensor, "responses pairs tokens"]:
        """Return a batch's values on its device, zero on padding.

        Args:
            name: one of `names`.
            batch: made of pairs that were selected.
        """
        parts = [self._places[name][pair_id] for pair_id in batch.pair_ids]
        sides, pairs, tokens = batch.response_mask.shape
        dtype = parts[0][0].tensors[f"{name}/{_SIDES[0]}"].dtype
        table = torch.zeros((sides, pairs, tokens), dtype=dtype)
        for index, (part, row) in enumerate(parts):
            for side in range(sides):
                values = part.values(name, row, side)
                table[side, index, : len(values)] = values
        return table.to(batch.response_mask.device)


class ReferenceCache:
    """The parts of one fingerprint in a folder that several runs and processes may share."""

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
        """Look for parts that were added since, by whatever process."""
        found = self.folder.glob("part-*") if self.folder.is_dir() else ()
        for folder in sorted(found):
            if folder.name not in self._parts:
                self._parts[folder.name] = _Part.open(folder)

    def missing(
        self, pairs: Sequence[TokenizedPair], names: Collection[str]
    ) -> list[TokenizedPair]:
        """Return the pairs of which not all of the named values are there, each once, in order."""
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
            pairs: whose values.
            names: which values.
            remedy: what to do where some are not there, as the end of a sentence.

        Raises:
            UserError: some are not there (the first few are named), two pairs share an id, or a
                file is damaged.
        """
        lacking = self.missing(pairs, names)
        if lacking:
            raise UserError(
                f"{self._what_lacks(lacking, len(pairs))}; {remedy}, or leave reference_cache out."
            )
        keys: dict[str, Key] = {}
        for pair in pairs:
            key = key_of(pair)
            if keys.setdefault(pair.pair_id, key) != key:
                raise UserError(
                    f"Two pairs have the id {pair.pair_id}, by which the reference cache knows "
                    "them; give each an id of its own."
                )
        places: dict[str, dict[str, tuple[_Part, int]]] = {name: {} for name in names}
        for _, part in sorted(self._parts.items(), reverse=True):
            for name in set(names) & set(part.names):
                found = {one: part.rows[key] for one, key in keys.items() if key in part.rows}
                if found:
                    part.tensors  # noqa: B018  # a damaged file is told of before training
                    places[name].update({one: (part, row) for one, row in found.items()})
        return CachedValues(places)

    def _what_lacks(self, lacking: Sequence[TokenizedPair], total: int) -> str:
        named = ", ".join(pair.pair_id for pair in lacking[:_NAMED_IDS])
        more = f" and {len(lacking) - _NAMED_IDS} more" if len(lacking) > _NAMED_IDS else ""
        text = (
            f"The reference cache {self.directory} lacks {len(lacking)} of {total} pairs "
            f"({named}{more})"
        )
        others = self._what_differs() if not self._parts else None
        return text if others is None else f"{text}: what is there was made with {others}"

    def _what_differs(self) -> str | None:
        """In what the closest other fingerprint of the folder differs, or None without one."""
        found = []
        for file in self.directory.glob(f"*/{_FINGERPRINT}"):
            with contextlib.suppress(OSError, ValueError):
                other = json.loads(file.read_text(encoding="utf-8"))
                keys = sorted(self.fingerprint.keys() | other.keys())
                found.append([k for k in keys if self.fingerprint.get(k) != other.get(k)])
        return min((f"other {', '.join(keys)}" for keys in found if keys), key=len, default=None)

    def begin(self, lacking: Sequence[TokenizedPair], total: int) -> None:
        """Make ready for writing, before anything is computed.

        Args:
            lacking: the pairs that are to be added, to name them where that is impossible.
            total: of how many.

        Raises:
            UserError: the cache is sealed or cannot be written to.
        """
        if (self.directory / _COMPLETE).exists():
            raise UserError(
                f"{self._what_lacks(lacking, total)}, and it is marked as complete; take another "
                "folder as reference_cache."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            text = json.dumps(self.fingerprint, indent=1, sort_keys=True) + "\n"
            apart = self._apart()
            _write_synced(apart / _FINGERPRINT, text.encode())
            (apart / _FINGERPRINT).replace(self.folder / _FINGERPRINT)
            shutil.rmtree(apart)
        except OSError as error:
            raise self._unwritable(error, self._what_lacks(lacking, total)) from error

    def holds(self, pairs: Sequence[TokenizedPair], names: Collection[str]) -> bool:
        """Tell whether the part that `write` would make of these pairs is there."""
        return (self.folder / _part_name(pairs, names)).is_dir()

    def write(
        self, pairs: Sequence[TokenizedPair], values: Mapping[str, Sequence[SideValues]]
    ) -> None:
        """Add a part, whole or not at all.

        Args:
            pairs: of the part.
            values: name → for each pair one value per token of its two responses.

        Raises:
            UserError: the disk is full or refuses.
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
        apart: Path | None = None
        try:
            apart = self._apart()
            _write_synced(apart / _VALUES, data)
            _write_synced(apart / _INDEX, (json.dumps(index) + "\n").encode())
            _synchronise(apart)
            try:
                apart.rename(target)
            except OSError:
                # Another process was faster: its part holds the same.
                if not target.is_dir():
                    raise
            _synchronise(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            if apart is not None:
                shutil.rmtree(apart, ignore_errors=True)
        self.refresh()

    def _apart(self) -> Path:
        """Make this process's folder for what is not whole yet."""
        apart = self.folder / f".writing-{socket.gethostname()}-{os.getpid()}"
        shutil.rmtree(apart, ignore_errors=True)
        apart.mkdir()
        return apart

    def _remove_leftovers(self) -> None:
        """Remove what processes of this machine left that were killed while they wrote."""
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
    """Mark a cache as complete: what it lacks is an error from now on, and nothing is added."""
    (directory / _COMPLETE).touch()


def _part_name(pairs: Sequence[TokenizedPair], names: Collection[str]) -> str:
    return f"part-{digest([[key_of(pair) for pair in pairs], sorted(names)])[:32]}"


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _synchronise(folder: Path) -> None:
    """Make a rename outlast a power failure."""
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
