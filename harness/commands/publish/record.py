"""A published run: a folder of files, and run.json, which describes them and has their hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.result_file import Problem, read_result_file, shape_problem
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.files import sha256_file
from sparsepo.errors import UserError, did_you_mean

FOLDER = "published"
"""The folder of published runs, beside those of profiles."""
RECORD = "run.json"
SCHEMA = "sparsepo-published-1"
"""Version of run.json, incremented when the meaning of a field changes."""

_TEXTS = ("experiment", "folder", "heading", "profile", "command", "git_commit", "hardware")
_LISTS = ("limits", "note")


@dataclass(frozen=True)
class PublishedRun:
    """A published run whose files have the hashes that run.json says."""

    folder: Path
    record: Mapping[str, Any]
    """run.json; docs/published.md has its fields."""
    result: Mapping[str, Any]
    """The experiment's JSON."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def file(self) -> Path:
        """The experiment's JSON file."""
        return self.folder / f"{self.record['experiment']}.json"


def read_published(folder: Path) -> PublishedRun:
    """Read a published run and check it.

    Args:
        folder: such as results/published/tiny-table1.

    Raises:
        UserError: it is not as it was published: a file is missing, truncated, altered or new.
    """
    try:
        record = _read_record(folder / RECORD)
        _check_files(folder, record["files"])
        result = read_result_file(folder / f"{record['experiment']}.json", ("id", "profile"))
        _check_result(record, result)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}.") from None
    except _DamagedError as error:
        raise UserError(
            f"{folder} is not as it was published ({error}); restore it with git, or publish the "
            "run again."
        ) from None
    return PublishedRun(folder, record, result)


def find_published(place: Path) -> tuple[list[PublishedRun], list[Problem]]:
    """Read all published runs, and say what is wrong with those that cannot be used.

    Args:
        place: their folder, such as results/published; it need not exist.

    Returns:
        The runs in alphabetical order, and the problems.
    """
    runs: list[PublishedRun] = []
    problems: list[Problem] = []
    for folder in published_folders(place):
        try:
            runs.append(read_published(folder))
        except UserError as error:
            problems.append(Problem(f"{place.name}/{folder.name}", str(error)))
    return runs, problems


def published_folders(place: Path) -> list[Path]:
    """Return the folders of published runs, in alphabetical order.

    Args:
        place: their folder; it need not exist.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sorted(
            path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}.") from None


def result_named(argument: Path, place: Path) -> Path:
    """Return the JSON file that a user means by a file, a folder, or a published run's name.

    Args:
        argument: what the user has given.
        place: the folder of published runs.

    Raises:
        UserError: there is no such result, or it is a published run that was altered.
    """
    if argument.is_file():
        if (argument.parent / RECORD).is_file():
            read_published(argument.parent)
        return argument
    names = [folder.name for folder in published_folders(place)]
    folder = argument if argument.is_dir() else place / argument
    if folder.is_dir():
        if (folder / RECORD).is_file() or folder.parent == place:
            return read_published(folder).file
        return result_in(folder)
    if argument.suffix == ".json" or len(argument.parts) > 1:
        # The reader of results says what is wrong with it.
        return argument
    raise UserError(
        f"There is no file, folder or published run {argument}.{did_you_mean(str(argument), names)}"
    )


def result_in(folder: Path) -> Path:
    """Return the JSON of the result in a folder that `run` has written.

    Raises:
        UserError: there is none, or more than one.
    """
    found = [folder / f"{id}.json" for id in EXPERIMENTS]
    there = [file for file in found if file.is_file()]
    if len(there) != 1:
        raise UserError(
            f"{folder} has {len(there) or 'no'} results of experiments; name a folder that run "
            "wrote, such as results/tiny/table1."
        )
    return there[0]


class _DamagedError(Exception):
    """What differs from run.json."""


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _DamagedError(f"{RECORD} is missing") from None
    except (ValueError, RecursionError):
        raise _DamagedError(f"{RECORD} is truncated or damaged") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise _DamagedError(f"{RECORD} is of another version")
    for name in (*_TEXTS, *_LISTS, "files"):
        if name not in record:
            raise _DamagedError(f"{RECORD} has no {name}")
    if not all(isinstance(record[name], str) for name in _TEXTS):
        raise _DamagedError(f"{RECORD} has a field that is not text")
    if not all(map(_is_list_of_text, (record[name] for name in _LISTS))):
        raise _DamagedError(f"{RECORD} has limits or a note that are not lists of text")
    if not record["limits"]:
        raise _DamagedError(f"{RECORD} does not say what the run cannot show")
    if not isinstance(record["files"], dict) or not all(map(_is_plain_name, record["files"])):
        raise _DamagedError(f"{RECORD} names files outside its folder")
    return record


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_plain_name(name: str) -> bool:
    return name == Path(name).name and not name.startswith(".")


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise _DamagedError(f"{name} is missing")
        if sha256_file(folder / name) != expected:
            raise _DamagedError(f"{name} is truncated or altered")
    more = sorted(_names(folder) - {*files, RECORD})
    if more:
        raise _DamagedError(f"{more[0]} is not among its files")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def _check_result(record: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    problem = shape_problem(result)
    if problem is not None:
        raise _DamagedError(f"its result has another schema: {problem}")
    pairs: Sequence[tuple[str, Any]] = (
        ("experiment", result["id"]),
        ("profile", result["profile"]),
        ("git_commit", result["provenance"].get("git_commit")),
        ("hardware", result["provenance"].get("hardware")),
    )
    for name, value in pairs:
        if record[name] != value:
            raise _DamagedError(f"{RECORD} and the result name another {name}")


def statements(text: str) -> list[str]:
    """Return the paragraphs and list items of a text, each on one line.

    Args:
        text: paragraphs apart by empty lines; lines that begin with "- " or "* " are items,
            and headings are left out.
    """
    return list(_statements(text))


def _statements(text: str) -> Iterator[str]:
    words: list[str] = []
    for line in [*text.splitlines(), ""]:
        item = line.lstrip().startswith(("- ", "* "))
        apart = not line.strip() or line.startswith("#")
        if (item or apart) and words:
            yield " ".join(words)
            words = []
        if not apart:
            words += line.lstrip()[2:].split() if item else line.split()
