from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.journal import Journal
from sparsepo.errors import UserError


def test_records_survive_and_belong_to_their_inputs(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out.json"
    with Journal(out, {"a": 1}) as journal:
        assert journal.records == []
        journal.append({"x": "é\ud800"})
        journal.append({"x": 2})
    with Journal(out, {"a": 2}) as other:
        assert other.records == []
    with Journal(out, {"a": 1}) as journal:
        assert journal.records == [{"x": "é\ud800"}, {"x": 2}]
        journal.remove()
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, cut: int) -> None:
    out = tmp_path / "out.json"
    with Journal(out, {}) as journal:
        journal.append({"x": 1})
        journal.append({"x": 2})
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-cut])
    for expected in ([{"x": 1}], [{"x": 1}, {"x": 3}]):
        with Journal(out, {}) as journal:
            assert journal.records == expected
            if len(expected) == 1:
                journal.append({"x": 3})


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b"", 0), (b"\0\0\0\n", 0), (b'{"inputs": "other"}\n{"x": 1}\n', 0), (b"HEAD\nrubbish\nX", 0)],
)
def test_a_damaged_journal_counts_up_to_the_damage(
    tmp_path: Path, content: bytes, kept: int
) -> None:
    out = tmp_path / "out.json"
    with Journal(out, {}) as journal:
        journal.append({"x": 1})
    head = journal.path.read_bytes().splitlines()[0]
    journal.path.write_bytes(content.replace(b"HEAD", head))
    with Journal(out, {}) as journal:
        assert len(journal.records) == kept
        journal.append({"x": 2})
    with Journal(out, {}) as journal:
        assert journal.records == [{"x": 2}]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with Journal(out, {}) as journal:
        journal.append({"x": 1})
        with pytest.raises(UserError, match=r"Another run is making .*out\.json"):
            Journal(out, {})
    with Journal(out, {}) as journal:
        assert journal.records == [{"x": 1}]


def test_without_records_nothing_stays(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.json", {}) as journal:
        assert journal.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        Journal(tmp_path / "file" / "out.json", {})
    with Journal(tmp_path / "out.json", {}) as journal:
        journal._stream.close()
        journal._stream = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
        with pytest.raises(UserError, match="No space left on the disk"):
            journal.append({})
