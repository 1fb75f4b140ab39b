"""What may not enter the repository: places on a machine, large files, values without a number."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError

LARGEST_FILE = 3_000_000
LARGEST_SAMPLES = 1_000_000
LARGEST_RUN = 6_000_000
"""Bytes of one file, of the file of samples, and of a published run [ours]: a clone stays small."""

SAMPLES = ".samples.jsonl.gz"

_PATH = re.compile(r"""(?<![^\s"'=(\[{,;:|`>])(?:file://)?/[\w.@+-]+(?:/[\w.@+-]+)+""")
"""An absolute path of two parts or more, at the beginning of a word."""
_ASSIGNED = re.compile(r"(?<==)/\w[\w.@+/-]*")
_HOME = re.compile(r"(?<![\w.])(?:/home|/Users|/root)/[\w.@+-]+")
_OF_USER = re.compile(r"(?<![\w/.~])~/[\w.@+-]+")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\[\w .-]+\\[\w .-]+|\\\\[\w.-]+\\[\w.$-]+")
_ADDRESS = re.compile(
    r"\b(?:https?|wss?|grpc|tcp|ray)://(?:[^\s/\"'@]+@[\w.-]+|localhost\b|\[[0-9a-f:]+\]|\d+(?:\.\d+){3}|[\w-]+(?=[:/]))"
)
"""Of a server on this network, or with a password."""
_STRICT = (_PATH, _ASSIGNED, _HOME, _OF_USER, _ADDRESS)


def check_contents(files: Mapping[str, bytes], own: Sequence[str] = ()) -> None:
    """Check the files of a run before they enter the repository, and again in the tests.

    What models and data say may look like a path of some machine; in the file of samples, only home
    folders and the folders of this machine are refused.

    Args:
        files: name → content.
        own: folders of this machine, which no file may name.

    Raises:
        UserError: a file is too large, names a place on a machine, or has NaN or an infinity.
    """
    total = sum(map(len, files.values()))
    for name, content in files.items():
        _check_size(name, len(content), LARGEST_SAMPLES if name.endswith(SAMPLES) else LARGEST_FILE)
    _check_size("The run", total, LARGEST_RUN)
    for name, content in files.items():
        for found in _places(name, content, own):
            more = "; or add --without-samples" if name.endswith(SAMPLES) else ""
            raise UserError(
                f"{name} names a place on a machine, {found}; nothing that is published may. Give "
                f"the run its files by names without folders, and run it again{more}."
            )


def own_folders(*folders: Path) -> list[str]:
    """Return folders of this machine that are telling enough to look for in any file.

    Args:
        folders: besides the user's home and this clone.
    """
    clone = Path(__file__).parents[3]
    found = (Path.home(), clone, clone.parent, *(folder.resolve() for folder in folders))
    return [str(folder) for folder in dict.fromkeys(found) if len(folder.parts) > 2]


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise UserError(
            f"{name} has {size / 1e6:.1f} MB, and a published run may have at most {most / 1e6:g} "
            "MB of it; publish a run of fewer rows or chains."
        )


def _places(name: str, content: bytes, own: Sequence[str]) -> Iterator[str]:
    """Yield what looks like a place on a machine."""
    patterns: Sequence[re.Pattern[str]] = ()
    if name.endswith(SAMPLES):
        texts = _strings_of_lines(name, gzip.decompress(content).decode())
        patterns = (_HOME,)
    elif name.endswith(".json"):
        texts, patterns = _strings(parsed(name, content.decode())), (*_STRICT, _WINDOWS)
    elif name.endswith((".md", ".csv")):
        texts, patterns = iter([content.decode()]), (*_STRICT, _WINDOWS)
    elif name.endswith(".tex"):
        # A letter, a colon and a command look like a drive and a folder.
        texts, patterns = iter([content.decode()]), _STRICT
    elif name.endswith(".html"):
        # A page has scripts, in which expressions look like paths; its data are in the JSON too.
        texts, patterns = iter([content.decode()]), (_HOME,)
    else:
        texts = iter([content.decode("latin-1")])
    for text in texts:
        yield from (folder for folder in own if folder in text)
        for pattern in patterns:
            yield from (found.group() for found in pattern.finditer(text))


def parsed(name: str, text: str) -> Any:
    """Return JSON data without values that are no numbers.

    Args:
        name: of its file.
        text: the file's.

    Raises:
        UserError: it is not JSON, or holds NaN or an infinity.
    """

    def refuse(constant: str) -> Any:
        raise UserError(f"{name} holds {constant}, which is no value; run its experiment again.")

    def finite(digits: str) -> Any:
        value = float(digits)
        return value if abs(value) < float("inf") else refuse(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError):
        raise UserError(f"{name} is not valid JSON; run its experiment again.") from None


def _strings_of_lines(name: str, text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _strings(parsed(name, line))


def _strings(value: Any) -> Iterator[str]:
    """Yield all names and texts in JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
