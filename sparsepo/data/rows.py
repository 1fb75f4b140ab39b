"""Rows of a file, a folder or a hub data set, as plain dictionaries."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsepo.data.hub import defer_messages
from sparsepo.errors import UserError, first_line

Row = dict[str, Any]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILE_SUFFIXES = (".jsonl", ".json", ".gz", ".parquet", ".csv", ".txt")


def read_rows(source: str | Path, split: str = "train", subset: str | None = None) -> Iterator[Row]:
    """Read the rows of a file, a folder or a hub data set as plain dictionaries.

    Args:
        source: a .jsonl, .json or .parquet file (JSON may be gzipped), a folder (the hub's layout
            or `Dataset.save_to_disk`), or a data set's id on the hub.
        split: the split of a folder or hub data set; ignored for a single file.
        subset: the subset of a hub data set that has several; ignored for files and folders.

    Yields:
        One dictionary per row, in order.

    Raises:
        UserError: the source is missing, unreadable, truncated or not in the format that its name
            says.
    """
    path = Path(source)
    if path.is_dir():
        yield from _folder_rows(path, split)
    elif path.is_file():
        try:
            yield from _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"{path} cannot be read ({reason}); check the file.") from error
    elif (
        isinstance(source, str)
        and _HUB_ID.fullmatch(source)
        and not source.endswith(_FILE_SUFFIXES)
    ):
        yield from _dataset_rows(source, split, subset)
    else:
        raise UserError(f"No such file or folder: {source}.")


def is_arrow(source: str | Path) -> bool:
    """Return whether `read_rows` reads a source with Arrow, which is true of all but JSON files."""
    path = Path(source)
    return path.suffix == ".parquet" or not path.is_file()


def kind_of(value: Any) -> str:
    """Return the kind of a value for an error message, such as "a number" or "null"."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    names |= {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), f"of type {type(value).__name__}")


def read_values(path: Path) -> Iterator[Any]:
    """Read the JSON values of a file, of any type: its lines, or the items of its array.

    Args:
        path: JSON Lines or a JSON array, which may be gzipped; or Parquet.

    Yields:
        The values, in order.

    Raises:
        UserError: as `read_rows`, except that values need not be objects.
    """
    if path.suffix == ".parquet":
        yield from read_rows(path)
        return
    for _, value in _json_values(path):
        yield value


def _json_rows(path: Path) -> Iterator[Row]:
    for where, value in _json_values(path):
        if not isinstance(value, dict):
            rule = "each line" if where.startswith("line") else "it"
            raise UserError(f"{path}, {where} is {kind_of(value)}; {rule} must be a JSON object.")
        yield value


def _json_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each value with its location."""
    with path.open("rb") as raw:
        magic = raw.read(2)
    gzipped = magic == b"\x1f\x8b"
    if path.suffix == ".gz" and not gzipped:
        raise UserError(f"{path} is named .gz but is not a gzip file; rename or compress it.")
    with gzip.open(path, "rb") if gzipped else path.open("rb") as stream:
        number = 0
        try:
            for number, line in enumerate(stream, start=1):
                if number == 1 and line.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                    yield from _json_array(path, line + stream.read())
                    return
                if text := _decode(path, number, line).strip():
                    yield f"line {number}", _json_line(path, number, text)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(
                f"{path} is a damaged or truncated gzip file: it ends after line {number}; "
                "download it again."
            ) from error


def _json_line(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number} is not valid JSON: {error.msg}.") from error
    except RecursionError as error:
        raise UserError(f"{path}, line {number} is nested too deeply.") from error


def _json_array(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    try:
        values = json.loads(_decode(path, 1, content))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno} is not valid JSON: {error.msg}.") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply.") from error
    yield from ((f"item {index}", value) for index, value in enumerate(values))


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        number += line.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}, line {number} is not UTF-8; convert the file to UTF-8."
        ) from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path} is not a readable Parquet file: {reason}.") from error


def _folder_rows(path: Path, split: str) -> Iterator[Row]:
    import datasets

    if not ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file()):
        yield from _dataset_rows(str(path), split)
        return
    with _readable(str(path)):
        loaded = datasets.load_from_disk(str(path))
    if isinstance(loaded, Mapping):
        if split not in loaded:
            raise UserError(f"{path} has no split '{split}'; it has {', '.join(map(str, loaded))}.")
        loaded = loaded[split]
    yield from _decoded(loaded, str(path))


def _dataset_rows(name: str, split: str, subset: str | None = None) -> Iterator[Row]:
    import datasets

    with _readable(name):
        loaded = datasets.load_dataset(name, subset, split=split)
    yield from _decoded(loaded, name)


def _decoded(loaded: Iterable[Row], name: str) -> Iterator[Row]:
    try:
        yield from loaded
    except Exception as error:
        raise _unreadable(name, error) from error


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn errors of `datasets` into a UserError, and drop its log messages.

    It raises a dozen unrelated types for missing, gated, empty and broken data, and for a missing
    network; the user can fix all of them.
    """
    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with defer_messages():
            yield
    except Exception as error:
        raise _unreadable(name, error) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()


def _unreadable(name: str, error: Exception) -> UserError:
    import datasets

    if isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__:
        error = Exception(error.__cause__)  # the outer error has no information
    detail = first_line(error).rstrip(".")
    if Path(name).is_dir():
        return UserError(
            f"The folder {name} cannot be read as a data set: {detail}; check its files."
        )
    return UserError(
        f"'{name}' is neither a local file or folder nor an accessible data set on the hub "
        f"({detail}); check the name, or give a local file."
    )
