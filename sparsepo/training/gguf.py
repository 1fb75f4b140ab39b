"""The header of a GGUF file: what it holds and whether it is whole, without reading its weights."""

from __future__ import annotations

import importlib.util
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError
from sparsepo.machine import available_bytes

GGUF = "python -m pip install 'gguf>=0.17,<0.20'"
"""The command that installs the extra `gguf` of pyproject.toml."""
MAGIC = b"GGUF"
VERSIONS = (2, 3)
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
COPIES = 3
"""Copies of the expanded weights that exist at once while a file is loaded."""
_SCALARS = {
    # GGUF's type of a value → its format.
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_NESTED = 4
"""Deepest array of arrays; no file in use has any."""


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    values: Mapping[str, Any]
    """Name → value, such as "general.architecture"; arrays are left out."""
    lengths: Mapping[str, int]
    """Name of an array → its length, such as that of the vocabulary."""
    tensors: Mapping[str, tuple[int, ...]]
    """Name → shape, its fastest dimension first."""
    types: Mapping[str, int]
    """Name of a tensor → GGML's number of its type."""
    offsets: Mapping[str, int]
    """Name of a tensor → byte at which it begins, from the beginning of the file."""

    @property
    def architecture(self) -> str:
        """The name of the model's architecture, such as "llama"."""
        return str(self.values.get("general.architecture", "unknown"))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(map(prod, self.tensors.values()))

    def of_model(self, name: str) -> Any:
        """Return a value of the architecture, such as "block_count"; None if there is none."""
        return self.values.get(f"{self.architecture}.{name}")


def require_reader(source: str | Path) -> None:
    """Check that the package that reads GGUF files is installed.

    Args:
        source: the file, for the message.

    Raises:
        UserError: it is missing.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"Reading '{source}' needs gguf: run `{GGUF}`.")


def read_header(file: Path) -> GgufHeader:
    """Read the header of a GGUF file, which is all of it before the weights.

    Args:
        file: the file, or its beginning.

    Raises:
        UserError: it is no GGUF file, or ends within its header.

    Source: the specification of GGUF in ggml's repository, docs/gguf.md.
    """
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(file: Path, modified_ns: int, size: int) -> GgufHeader:
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise UserError(f"'{file}' is not a GGUF file; download it again or choose another.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _Parser(content, file).header()
            except (struct.error, UnicodeDecodeError):
                raise _cut_short(file) from None


def check_whole(file: Path) -> GgufHeader:
    """Check that a GGUF file is whole.

    Args:
        file: the file.

    Returns:
        Its header.

    Raises:
        UserError: it is cut short, or no GGUF file.
    """
    header = read_header(file)
    if file.stat().st_size < _needed_bytes(header, file):
        raise _cut_short(file)
    return header


def check_memory(file: str | Path, header: GgufHeader, dtype: str = "float32") -> None:
    """Check that there is memory to load a model.

    Args:
        file: the file, for the message.
        header: its header.
        dtype: of the weights once they are expanded; float32 for "auto".

    Raises:
        UserError: there is less memory than its weights need while they are loaded.
    """
    needed = COPIES * header.parameters * BYTES.get(dtype, 4)
    free = available_bytes()
    if free is not None and needed > free:
        raise UserError(
            f"Loading '{file}' takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} "
            "GB are free; close other programs, or choose a smaller model."
        )


def _needed_bytes(header: GgufHeader, file: Path) -> int:
    """Return the bytes of a whole file."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    ends = [0]
    for name, shape in header.tensors.items():
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(header.types[name])]
        except (KeyError, ValueError):
            raise UserError(
                f"'{file}' has weights of a type that the installed gguf does not know (number "
                f"{header.types[name]}); upgrade gguf, or choose another file."
            ) from None
        ends.append(header.offsets[name] + prod(shape) // block * size)
    return max(ends)


def _cut_short(file: Path) -> UserError:
    return UserError(f"'{file}' is cut short; download or copy it again.")


class _Parser:
    """Reads a header from its beginning."""

    def __init__(self, content: mmap.mmap, file: Path) -> None:
        self._content = content
        self._file = file
        self._place = len(MAGIC)

    def header(self) -> GgufHeader:
        """Return the header.

        Raises:
            struct.error: the file ends before it does.
        """
        version = self._number("I")
        if version not in VERSIONS:
            raise UserError(
                f"'{self._file}' is a GGUF file of version {version}, or of a big-endian machine; "
                "convert it again with a current llama.cpp."
            )
        tensors, pairs = self._number("Q"), self._number("Q")
        values: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(pairs):
            name, kind = self._text(), self._number("I")
            if kind == _ARRAY:
                lengths[name] = self._skip_array()
            else:
                values[name] = self._value(kind)
        shapes: dict[str, tuple[int, ...]] = {}
        types: dict[str, int] = {}
        offsets: dict[str, int] = {}
        for _ in range(tensors):
            name, dimensions = self._text(), self._number("I")
            shapes[name] = tuple(self._number("Q") for _ in range(dimensions))
            types[name], offsets[name] = self._number("I"), self._number("Q")
        alignment = int(values.get("general.alignment", 0)) or 32
        start = -(-self._place // alignment) * alignment
        offsets = {name: start + offset for name, offset in offsets.items()}
        return GgufHeader(values, lengths, shapes, types, offsets)

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._content, self._place)
        self._place += struct.calcsize(f"<{form}")
        return value

    def _text(self) -> str:
        length = self._number("Q")
        end = self._place + length
        if end > len(self._content):
            raise struct.error
        text = self._content[self._place : end].decode("utf-8")
        self._place = end
        return text

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind not in _SCALARS:
            raise struct.error
        return self._number(_SCALARS[kind])

    def _skip_array(self, depth: int = 0) -> int:
        """Return an array's length, and go on behind it."""
        kind, length = self._number("I"), self._number("Q")
        if kind in _SCALARS:
            self._place += length * struct.calcsize(f"<{_SCALARS[kind]}")
        elif kind == _STRING:
            for _ in range(length):
                # A vocabulary may have a quarter of a million words, which nobody reads here.
                size = self._number("Q")
                self._place += size
        elif kind == _ARRAY and depth < _NESTED:
            for _ in range(length):
                self._skip_array(depth + 1)
        else:
            raise struct.error
        return int(length)
