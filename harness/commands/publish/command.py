"""Copies a result into the repository, with its description, hashes and limits."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.leaderboard.costs import TIMINGS
from harness.commands.publish.checks import (
    LARGEST_SAMPLES,
    check_contents,
    own_folders,
    parsed,
)
from harness.commands.publish.readme import README, readme
from harness.commands.publish.record import (
    RECORD,
    SCHEMA,
    read_published,
    result_in,
    statements,
)
from harness.commands.publish.samples import Thinned, thinned
from harness.commands.result_file import read_result_file, shape_problem
from harness.domains import get_domain
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.samples import samples_name
from harness.graph.files import (
    explain_disk_error,
    pretty_json,
    replace_folder,
    sha256_bytes,
    utc_time,
)
from harness.render.columns import most_chains
from harness.render.notes import heading
from sparsepo.errors import UserError

_NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
_SYNTHETIC = ("world", "none")
MOST_TEXT = 4000
"""Characters of the limits, and of the note [ours]: they are read before the numbers."""


@dataclass(frozen=True)
class PublishRequest:
    """What the user asks for."""

    result: Path
    """The folder that `run` has written, or the JSON in it."""
    name: str
    limits: Path
    """A text: what the run cannot show."""
    place: Path
    """The folder of published runs."""
    note: Path | None = None
    """A text: what the run shows."""
    samples: bool = True
    replace: bool = False


@dataclass(frozen=True)
class Publication:
    """What was published."""

    folder: Path
    unchanged: bool
    """Whether the same run was there already."""
    size: int
    """Bytes."""
    remarks: Sequence[str]
    """What the user should know."""


def publish(request: PublishRequest) -> Publication:
    """Copy a result into the folder of published runs; equal results give equal bytes.

    Args:
        request: what the user asks for.

    Raises:
        UserError: the result is incomplete, was made with code that is not committed or on
            stand-ins, or has something that may not enter the repository.
    """
    if not _NAME.fullmatch(request.name):
        raise UserError(
            f"--as {request.name} is not a name of lower-case letters, digits, hyphens and points, "
            "such as tiny-table1."
        )
    file = result_in(request.result) if request.result.is_dir() else request.result
    result = read_result_file(file, ("id", "profile", "provenance"))
    _require_publishable(file, result)
    samples = _samples(file, result) if request.samples else None
    files = _contents(file, result)
    if samples is not None:
        files[samples_name(result["id"])] = samples.content
    record = _record(request, file, result, files, samples)
    files[README] = readme(record, sorted(files)).encode()
    files = dict(sorted(files.items()))
    record["files"] = {name: sha256_bytes(content) for name, content in files.items()}
    files[RECORD] = pretty_json(record).encode()
    check_contents(files, own_folders(request.place, file.parent))
    folder = request.place / request.name
    unchanged = _is_there(folder, files)
    if folder.exists() and not unchanged and not request.replace:
        raise UserError(
            f"{folder} is another run, or has another text; choose another --as, or add --replace."
        )
    if not unchanged:
        _put(folder, files)
    return Publication(
        folder, unchanged, sum(map(len, files.values())), _remarks(file, result, request, samples)
    )


def _require_publishable(file: Path, result: Mapping[str, Any]) -> None:
    id = result["id"]
    problem = shape_problem(result)
    if problem is not None or id not in EXPERIMENTS:
        raise UserError(
            f"{file} was not written by this version of the command ({problem or id}); run {id} "
            "again."
        )
    made = result["provenance"]
    if made.get("rehearsal"):
        raise UserError(f"{file} is of a rehearsal, on stand-ins for models and data.")
    if not made.get("git_commit"):
        raise UserError(f"{file} does not say of which commit it is; run {id} in a clone.")
    if made.get("git_dirty") is not False:
        raise UserError(
            f"{file} was made with changes that are not committed; commit them and run {id} again."
        )
    for name in ("command", "hardware", "settings"):
        if not made.get(name):
            raise UserError(f"{file} does not say its {name}; run {id} again.")


def _contents(file: Path, result: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a result as they are, without that of samples: name → content."""
    experiment = EXPERIMENTS[result["id"]]
    try:
        drawn = get_domain(experiment.domain).files(experiment, result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise UserError(
            f"{file} was written by another version of this program; run {result['id']} again."
        ) from None
    found = {}
    for name in (file.name, TIMINGS, *drawn):
        try:
            found[name] = (file.parent / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"{file.parent} is incomplete: {name} cannot be read ({error.strerror}); run "
                f"{result['id']} again."
            ) from None
    return found


def _samples(file: Path, result: Mapping[str, Any]) -> Thinned | None:
    samples = file.parent / samples_name(result["id"])
    return thinned(samples, LARGEST_SAMPLES) if samples.is_file() else None


def _record(
    request: PublishRequest,
    file: Path,
    result: Mapping[str, Any],
    files: Mapping[str, bytes],
    samples: Thinned | None,
) -> dict[str, Any]:
    """Return run.json, but for the hashes."""
    made = result["provenance"]
    timings = _timings(files[TIMINGS])
    seconds = timings["seconds"].values()
    before = _published_before(file.parent)
    return {
        "schema": SCHEMA,
        "name": request.name,
        "experiment": result["id"],
        "folder": before.get("folder") or file.parent.name,
        "heading": result.get("heading") or heading(result),
        "profile": result["profile"],
        "command": made["command"],
        "git_commit": made["git_commit"],
        "hardware": made["hardware"],
        "model": made.get("model"),
        "python": made.get("python"),
        "versions": made.get("versions", {}),
        "chains": most_chains(result.get("rows") or ()),
        # Results of older versions do not say when; their file does, until it is copied.
        "finished": before.get("finished") or timings.get("finished") or utc_time(file),
        "stages": len(seconds),
        "seconds": round(sum(seconds), 3),
        "limits": _text(request.limits, "--limits"),
        "note": [] if request.note is None else _text(request.note, "--note"),
        "samples": None if samples is None else {"kept": samples.kept, "of": samples.found},
    }


def _timings(content: bytes) -> Mapping[str, Any]:
    found = parsed(TIMINGS, content.decode(errors="replace"))
    timings: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    seconds = timings.get("seconds")
    if not isinstance(seconds, Mapping) or not all(
        isinstance(one, int | float) for one in seconds.values()
    ):
        raise UserError(f"{TIMINGS} has no durations of stages; run its experiment again.")
    return timings


def _published_before(folder: Path) -> Mapping[str, Any]:
    """Return run.json if the result is a published one, whose text is to be changed."""
    return read_published(folder).record if (folder / RECORD).is_file() else {}


def _text(file: Path, option: str) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{option} {file} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UserError(f"{option} {file} is not a text in UTF-8.") from None
    found = statements(text)
    if not found:
        raise UserError(f"{option} {file} is empty; write at least one sentence.")
    if len(text) > MOST_TEXT:
        raise UserError(f"{option} {file} has {len(text)} characters; be shorter than {MOST_TEXT}.")
    return found


def _remarks(
    file: Path, result: Mapping[str, Any], request: PublishRequest, samples: Thinned | None
) -> list[str]:
    found = []
    if samples is not None and samples.kept < samples.found:
        found.append(
            f"{samples.kept} of {samples.found} samples, evenly spaced, within "
            f"{LARGEST_SAMPLES / 1e6:g} MB"
        )
    if samples is None and request.samples and (file.parent / samples_name(result["id"])).exists():
        found.append("no samples: a single one is too large")
    data = result["provenance"]["settings"].get("data", {})
    real = sorted(
        {value for value in data.values() if isinstance(value, str) and value not in _SYNTHETIC}
    )
    if real:
        found.append(
            f"may hold texts of {', '.join(real)}; check that their licence lets you publish them"
            + (" (--without-samples leaves the samples out)" if samples is not None else "")
        )
    return found


def _is_there(folder: Path, files: Mapping[str, bytes]) -> bool:
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != set(files):
        return False
    return all((folder / name).read_bytes() == content for name, content in files.items())


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder that is complete or as it was before."""
    staging: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".publishing-", dir=folder.parent))
        new = staging / "new"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        replace_folder(new, folder)
    except OSError as error:
        raise explain_disk_error(error, folder) or error from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
