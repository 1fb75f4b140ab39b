"""Which rows of a folder or a single file belong to a split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from sparsepo.data.rows import Row, read_rows
from sparsepo.errors import UserError

SPLITS = ("train", "test")
TEST_SHARE = 0.2
"""Share of a single file's prompts in its test split."""

_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")


def check_split(split: str, name: str) -> None:
    """Check the name of a split.

    Args:
        split: as given.
        name: of the data set, for the message.

    Raises:
        UserError: it is neither "train" nor "test".
    """
    if split not in SPLITS:
        raise UserError(f"{name} has no split {split!r}; it has {' and '.join(SPLITS)}.")


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the data files in `folder` whose names contain `split` as a word."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.name.endswith(_SUFFIXES) and split in re.split(r"[^a-z]+", file.name.lower())
    )


def is_test(prompt: str) -> bool:
    """Return whether a prompt of a single file is in its test split, by a hash of its text."""
    digest = hashlib.sha256(prompt.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32


def numbered_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield a file's rows with `pair_id` "<file stem>:<row>", rows counted over the whole file."""
    stem = path.name.split(".")[0]
    for index, row in enumerate(read_rows(path, split)):
        yield {"pair_id": f"{stem}:{index}", **row}
