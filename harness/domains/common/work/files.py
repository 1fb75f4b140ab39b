"""Shared by stage functions: locations of inputs, files of pairs, row caps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from harness.graph.stages import StageContext
from sparsepo.data.hub import require_model
from sparsepo.data.jsonl import read_jsonl, write_jsonl
from sparsepo.types import PreferencePair

Item = TypeVar("Item")

MODEL = "model"
"""Name of the folder of a model in a stage's artefact."""
TOKEN_MASKS = "masks.jsonl"
"""Name of the file of given masks in a stage's artefact."""


def starting_model(context: StageContext) -> Path | str:
    """Return the source of a stage's model: an input stage, a user's folder, or a hub id.

    Raises:
        UserError: the hub has no such model, or cannot be reached.
    """
    if "model" in context.inputs:
        return context.inputs["model"] / MODEL
    if "model" in context.files:
        return context.files["model"]
    name = str(context.config["model"])
    require_model(name)
    return name


def sources(context: StageContext) -> dict[str, Path | str | None]:
    """Return the source of each benchmark: the world's file, the hub, a file, or None."""
    chosen: Mapping[str, str | None] = context.config["sources"]
    places: dict[str, Path | str | None] = {}
    for name, source in chosen.items():
        if source == "world":
            places[name] = context.inputs["world"] / "leaderboard" / f"{name}.jsonl"
        elif source == "file":
            places[name] = context.files[name]
        else:
            places[name] = source
    return places


def write_pairs(pairs: Iterable[PreferencePair], path: Path) -> None:
    """Write pairs, one JSON object per line."""
    write_jsonl(map(asdict, pairs), path)


def read_pairs_file(path: Path) -> list[PreferencePair]:
    """Read the pairs that `write_pairs` wrote."""
    return [PreferencePair(**row) for row in read_jsonl(path)]


def write_json(value: object, path: Path) -> None:
    """Write an artefact's JSON; NaN, which JSON does not have, raises a ValueError."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def evenly_spaced(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Return at most `limit` evenly spaced items: item ⌊i·n/limit⌋ for each i."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]
