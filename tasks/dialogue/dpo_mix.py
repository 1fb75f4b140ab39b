"""Reads argilla/dpo-mix-7k in its own schema: whole dialogues as lists of chat messages.

A row has `chosen` and `rejected`, each `[{"role": …, "content": …}, …]`: possibly a system message,
one or several turns, and the response. Its ratings and the name of its source are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparsepo.data.pairs import PairData, pairs_of_rows, read_rows
from sparsepo.data.rows import is_arrow, kind_of
from sparsepo.data.splits import check_split, is_test, numbered_rows, split_files
from sparsepo.errors import UserError

Row = dict[str, Any]


def read_dpo_mix(source: str | Path, split: str = "train") -> PairData:
    """Read preference pairs of DPO-mix's schema as chat messages.

    Args:
        source: a hub id (`argilla/dpo-mix-7k`), a folder, or one file. In a folder, at any depth,
            the files of a split are those whose names contain its name as a word. One file is split
            by a hash of the prompt: about a fifth of the prompts are `test`, the others `train`.
        split: "train" or "test".

    Returns:
        The pairs (chat form, the prompt with its system message) and the report, whose counts are
        those of the split. Rows whose dialogues differ before the response, and empty or identical
        responses, are skipped.

    Raises:
        UserError: unknown split, missing or damaged source, another schema, no usable row.
    """
    check_split(split, "DPO-mix")
    rows = list(_rows(source, split))
    if not rows:
        raise UserError(
            f"{source} has no rows of the split {split!r}; check the file, or choose another split."
        )
    return pairs_of_rows(rows, source, split, arrow=is_arrow(source))


def _rows(source: str | Path, split: str) -> Iterator[Row]:
    path = Path(source)
    if path.is_file():
        for row in _checked(numbered_rows(path, split), path):
            if is_test(_prompt_text(row["chosen"])) == (split == "test"):
                yield row
    elif path.is_dir() and (files := split_files(path, split)):
        for file in files:
            yield from _checked(numbered_rows(file, split), file)
    else:
        yield from _checked(read_rows(source, split), source)


def _checked(rows: Iterator[Row], source: str | Path) -> Iterator[Row]:
    """Yield the rows; raise an error that names the row if it is not a pair of dialogues."""
    for index, row in enumerate(rows):
        for column in ("chosen", "rejected"):
            if column not in row:
                columns = ", ".join(name for name in row if name != "pair_id")
                raise UserError(
                    f"{source}, row {index} has no column '{column}'; its columns are {columns}."
                )
            value = row[column]
            if value is not None and not isinstance(value, list):
                raise UserError(
                    f"{source}, row {index}: '{column}' is {kind_of(value)}; it must be a list of "
                    "chat messages, as in argilla/dpo-mix-7k."
                )
        yield row


def _prompt_text(messages: list[Any] | None) -> str:
    """Return everything before the response, as the key of the split."""
    before = (messages or [])[:-1]
    return "\n\n".join(
        f"{m.get('role')}: {m.get('content')}" for m in before if isinstance(m, dict)
    )
