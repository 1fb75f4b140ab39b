"""Whether the files of an experiment are those that a run would write again."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from harness.commands.run import Prepared, made_by
from harness.graph.files import canonical_json, pretty_json, sha256_file, write_files

RECORD = ".made.json"
"""In an experiment's folder: what its files were made from, and their hashes."""
_ROOT = Path(__file__).parents[2]
_PACKAGES = ("harness", "tasks", "sparsepo", "results/paper")


def is_made(prepared: Prepared) -> bool:
    """Tell whether all files of an experiment are there, and nothing that they follow from changed.

    Args:
        prepared: an experiment whose stages are in the store.
    """
    try:
        record = json.loads((prepared.folder / RECORD).read_text(encoding="utf-8"))
        if record["key"] != _key(prepared):
            return False
        return all(
            sha256_file(prepared.folder / name) == digest
            for name, digest in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def record_made(prepared: Prepared) -> None:
    """Record what an experiment's files were made from.

    Args:
        prepared: an experiment whose files have just been written.
    """
    files = sorted(
        path
        for path in prepared.folder.iterdir()
        if path.is_file() and not path.name.startswith(".")
    )
    content = {
        "key": _key(prepared),
        "files": {path.name: sha256_file(path) for path in files},
    }
    write_files(prepared.folder, {RECORD: pretty_json(content)})


def _key(prepared: Prepared) -> str:
    """Hash everything that a result is computed from: artefacts, rows, provenance, our code."""
    content = {
        "experiment": repr(prepared.experiment),
        "rows": repr(prepared.rows),
        "targets": [stage.address for stage in prepared.targets],
        "made_by": made_by(prepared),
        "code": _source_hash(),
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@lru_cache(maxsize=1)
def _source_hash() -> str:
    """Hash the files of the project, any of which may decide how a result looks."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".pyo"):
                digest.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
