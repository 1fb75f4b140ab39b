"""Files of token masks: what is written is read, and what cannot be a mask is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsepo.data.token_masks import TokenMask, read_token_masks, write_token_masks
from sparsepo.errors import UserError

VALUES = st.lists(st.floats(0, allow_nan=False, allow_infinity=False), max_size=6)
WEIGHTS = st.tuples(VALUES, VALUES)
ROW: dict[str, Any] = {"pair_id": "a", "reward_mask": {"chosen": [0, 1.5], "rejected": [2.0]}}


@given(st.dictionaries(st.text(min_size=1), st.tuples(WEIGHTS, WEIGHTS), min_size=1), st.booleans())
@settings(deadline=None)
def test_what_is_written_is_read(
    rows: dict[str, tuple[tuple[list[float], list[float]], ...]], independent: bool
) -> None:
    masks = [
        TokenMask(pair_id, reward, kl if independent else None)
        for pair_id, (reward, kl) in rows.items()
    ]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "masks.jsonl"
        write_token_masks(masks, file)
        assert list(read_token_masks(file).values()) == masks


@pytest.mark.parametrize("kind", ["jsonl.gz", "parquet"])
def test_other_formats_are_the_same(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"masks.{kind}"
    row = {**ROW, "kl_mask": {"chosen": [1.0, 1.0], "rejected": [0.0]}}
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), file)
    else:
        file.write_bytes(gzip.compress(json.dumps(row).encode()))
    expected = TokenMask("a", ([0.0, 1.5], [2.0]), ([1.0, 1.0], [0.0]))
    assert read_token_masks(file) == {"a": expected}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair_id": None}, "row 0 has no pair_id"),
        ({"reward_mask": None}, "row 0 has no reward_mask"),
        ({"reward_mask": [1.0]}, "reward_mask must be an object with chosen and rejected"),
        ({"reward_mask": {"chosen": [1.0]}}, "must be an object with chosen and rejected"),
        ({"reward_mask": {"chosen": [-0.5], "rejected": []}}, r"value 0 is -0\.5; masks are"),
        ({"reward_mask": {"chosen": [1], "rejected": [0, float("nan")]}}, "rejected: value 1"),
        ({"reward_mask": {"chosen": [float("inf")], "rejected": []}}, "value 0 is inf"),
        ({"reward_mask": {"chosen": ["x"], "rejected": []}}, "value 0 is 'x'"),
        ({"reward_mask": {"chosen": [True], "rejected": []}}, "value 0 is True"),
        ({"kl_mask": {"chosen": [-1], "rejected": []}}, "kl_mask, chosen: value 0 is -1"),
    ],
)
def test_what_is_no_mask_is_refused_in_one_sentence(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = tmp_path / "masks.jsonl"
    file.write_text(json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(UserError, match=message) as found:
        read_token_masks(file)
    assert "\n" not in str(found.value)


def test_repeated_pairs_mixed_rows_and_empty_or_missing_files(tmp_path: Path) -> None:
    file = tmp_path / "masks.jsonl"
    file.write_text(2 * (json.dumps(ROW) + "\n"))
    with pytest.raises(UserError, match="row 1: pair_id a is repeated"):
        read_token_masks(file)
    other = {**ROW, "pair_id": "b", "kl_mask": ROW["reward_mask"]}
    file.write_text(json.dumps(ROW) + "\n" + json.dumps(other) + "\n")
    with pytest.raises(UserError, match="either all rows or none must have a kl_mask"):
        read_token_masks(file)
    file.write_text("")
    with pytest.raises(UserError, match="contains no rows"):
        read_token_masks(file)
    with pytest.raises(UserError, match="does not exist; give a file"):
        read_token_masks(tmp_path / "absent.jsonl")
