from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsepo.data.jsonl import read_jsonl, write_jsonl
from sparsepo.data.rows import read_rows

TEXT = st.text(st.characters(exclude_categories=()))
"""With lone surrogates."""
ROWS = st.lists(st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(TEXT)))


@given(ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_read_as_they_were_written(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(rows, tmp_path / "rows.jsonl")
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows
    # And by the reader of everybody's files.
    assert list(read_rows(tmp_path / "rows.jsonl")) == rows


def test_line_separators_in_a_text_do_not_part_its_row(tmp_path: Path) -> None:
    row = {"text": "a\u2028b\x85c\rd\x0be\ud800"}
    write_jsonl([row], tmp_path / "rows.jsonl")
    assert len((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == [row]


def test_rows_are_appended(tmp_path: Path) -> None:
    write_jsonl([{"a": 1}], tmp_path / "rows.jsonl", append=True)
    write_jsonl([{"a": 2}], tmp_path / "rows.jsonl", append=True)
    assert [row["a"] for row in read_jsonl(tmp_path / "rows.jsonl")] == [1, 2]
    write_jsonl([{"a": 3}], tmp_path / "rows.jsonl")
    assert [row["a"] for row in read_jsonl(tmp_path / "rows.jsonl")] == [3]
