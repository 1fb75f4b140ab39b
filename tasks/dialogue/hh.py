r"""Reads Anthropic/hh-rlhf in its own schema: whole dialogues, one chosen and one rejected.

A dialogue is text, "\n\nHuman: …\n\nAssistant: …"; its last assistant turn is the response, and all
turns before it are the prompt. The real files contain irregular rows: dialogues that differ before
the last turn, and empty or identical responses. They are skipped, counted and reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparsepo.data.pairs import (
    DIALOGUES_PART,
    MISSING_RESPONSE,
    NO_ASSISTANT_TURN,
    Content,
    PairData,
    SkipRow,
    build_pairs,
    read_rows,
)
from sparsepo.data.splits import check_split, is_test, numbered_rows, split_files
from sparsepo.errors import UserError
from sparsepo.types import Message

NO_DIALOGUE = "not a Human/Assistant dialogue"

_TURN = re.compile(r"\n\n(Human|Assistant):(?=\s|$)")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def read_hh(source: str | Path, split: str = "train") -> PairData:
    """Read preference pairs of HH's schema as chat messages.

    Args:
        source: a hub id (`Anthropic/hh-rlhf`), a folder, or one file. In a folder, at any depth,
            the files of a split are those whose names contain its name as a word (`train.jsonl.gz`,
            `pairs_test.jsonl`). One file is split by a hash of the prompt's text: about a fifth of
            the prompts are `test`, the others `train`, and no prompt is in both.
        split: "train" or "test".

    Returns:
        The pairs (chat form; an id is `<file stem>:<row>`, counted over the whole file) and the
        report, whose counts are those of the split.

    Raises:
        UserError: unknown split, missing or damaged source, missing column, no usable row.
    """
    check_split(split, "HH")
    rows = list(_rows(source, split))
    if not rows:
        raise UserError(
            f"{source} has no rows of the split {split!r}; check the file, or choose another split."
        )
    return build_pairs(rows, _parse, source, split)


def parse_dialogue(text: str) -> list[Message]:
    r"""Split a dialogue of HH into chat messages.

    Args:
        text: "\n\nHuman: …\n\nAssistant: …".

    Returns:
        The turns in order, stripped of surrounding white space. Nothing is merged: two turns of
        one speaker stay two messages.

    Raises:
        SkipRow: the text does not begin with a turn.
    """
    pieces = _TURN.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        raise SkipRow(NO_DIALOGUE)
    return [
        {"role": _ROLES[speaker], "content": content.strip()}
        for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _parse(row: dict[str, Any], where: str) -> tuple[Content, Content, Content]:
    chosen, rejected = (_dialogue(row, column, where) for column in ("chosen", "rejected"))
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise SkipRow(NO_ASSISTANT_TURN)
    if chosen[:-1] != rejected[:-1]:
        raise SkipRow(DIALOGUES_PART)
    return chosen[:-1], chosen[-1:], rejected[-1:]


def _dialogue(row: dict[str, Any], column: str, where: str) -> list[Message]:
    text = row.get(column)
    if text is None:
        raise SkipRow(MISSING_RESPONSE)
    if not isinstance(text, str):
        raise UserError(
            f"{where}: '{column}' should be a dialogue as text, not {type(text).__name__}."
        )
    return parse_dialogue(text)


def _rows(source: str | Path, split: str) -> Iterator[dict[str, Any]]:
    path = Path(source)
    if path.is_file():
        for row in _numbered(path, split):
            if _is_test(row) == (split == "test"):
                yield row
    elif path.is_dir() and (files := split_files(path, split)):
        for file in files:
            yield from _numbered(file, split)
    else:
        yield from _checked(read_rows(source, split), source)


def _numbered(path: Path, split: str) -> Iterator[dict[str, Any]]:
    yield from _checked(numbered_rows(path, split), path)


def _checked(rows: Iterator[dict[str, Any]], source: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the rows; raise an error with the columns' names if the schema is another one."""
    for index, row in enumerate(rows):
        for column in ("chosen", "rejected"):
            if index == 0 and column not in row:
                raise UserError(
                    f"{source} has no column '{column}'; its columns are {', '.join(row)}."
                )
        yield row


def _is_test(row: dict[str, Any]) -> bool:
    """Return a hash of everything before the last assistant turn of the chosen dialogue."""
    return is_test(str(row.get("chosen")).rpartition("\n\nAssistant:")[0])
