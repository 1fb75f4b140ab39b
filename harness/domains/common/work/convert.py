"""The stage that turns a GGUF file into an ordinary checkpoint, once for all that follows."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from harness.domains.common.work.files import MODEL, write_json
from harness.graph.stages import StageContext
from sparsepo.errors import UserError, first_line
from sparsepo.training.gguf import GgufHeader, check_whole
from sparsepo.training.sources import from_source, gguf_tokenizer

_CHUNK = 1 << 20
_WEIGHT = 4
"""Bytes of a float32 weight."""
_MARGIN = 50_000_000
"""Bytes for the tokenizer and for what else is being written."""


def convert_gguf(context: StageContext) -> None:
    """Write model/: weights in float32, tokenizer and chat template; and source.json.

    Configuration: `sha256` of the file, or None for any. Files: "gguf0", and the further parts of
    a file in several, in order.

    Raises:
        UserError: the file has another hash, is cut short, is of an architecture that transformers
            does not read, or needs more memory or disk than there is.
    """
    parts = [context.files[name] for name in sorted(context.files)]
    found = _sha256(parts)
    wanted = context.config["sha256"]
    if wanted is not None and found != wanted:
        raise UserError(
            f"'{parts[0]}' does not have the hash of the model that it is named after; install its "
            f"package again (SHA-256 {found[:12]}…, not {wanted[:12]}…)."
        )
    file, joined = parts[0], context.work / "joined.gguf"
    try:
        if len(parts) > 1:
            _require_disk(context.work, sum(part.stat().st_size for part in parts))
            _join(parts, joined)
            file = joined
        header = check_whole(file)
        _require_disk(context.work, _WEIGHT * header.parameters)
        model, tokenizer = _loaded(file)
    finally:
        joined.unlink(missing_ok=True)
    model.save_pretrained(context.work / MODEL)
    tokenizer.save_pretrained(context.work / MODEL)
    write_json(_description(header, found), context.work / "source.json")


def _loaded(file: Path) -> tuple[Any, Any]:
    """Return the model and the tokenizer of a file.

    Raises:
        UserError: transformers cannot read one of them.
    """
    try:
        return from_source(file, {"dtype": "float32"}), gguf_tokenizer(file)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"transformers cannot read '{file}'; choose another file ({first_line(error)})."
        ) from error


def _description(header: GgufHeader, sha256: str) -> dict[str, object]:
    return {
        "architecture": header.architecture,
        "name": header.values.get("general.name"),
        "parameters": header.parameters,
        "sha256": sha256,
    }


def _sha256(parts: list[Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _join(parts: list[Path], target: Path) -> None:
    with target.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, _CHUNK)


def _require_disk(folder: Path, needed: int) -> None:
    """Check that there is room for a number of bytes.

    Raises:
        UserError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if needed + _MARGIN > free:
        raise UserError(
            f"The converted model takes {(needed + _MARGIN) / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free on the store's disk; free some space, or choose another disk with --store "
            "DIR (or SPARSEPO_STORE)."
        )
