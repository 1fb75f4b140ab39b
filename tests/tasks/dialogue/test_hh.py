import gzip
import json
from pathlib import Path

import pytest

from sparsepo.data.pairs import (
    DIALOGUES_PART,
    EMPTY_RESPONSE,
    IDENTICAL_RESPONSES,
    NO_ASSISTANT_TURN,
)
from sparsepo.errors import UserError
from tasks.dialogue.hh import NO_DIALOGUE, parse_dialogue, read_hh


def dialogue(*turns: str) -> str:
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[i % 2]}: {turn}" for i, turn in enumerate(turns))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def good(number: int) -> dict[str, object]:
    return {
        "chosen": dialogue("Hi", "Hello", f"Question {number}?", "Yes."),
        "rejected": dialogue("Hi", "Hello", f"Question {number}?", "No."),
    }


def test_last_assistant_turn_is_the_response(tmp_path: Path) -> None:
    folder = tmp_path / "hh"
    write(folder / "train.jsonl.gz", [good(0)])
    pair = read_hh(folder).pairs[0]
    assert pair.pair_id == "train:0"
    assert pair.prompt == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Question 0?"},
    ]
    assert pair.chosen == [{"role": "assistant", "content": "Yes."}]
    assert pair.rejected == [{"role": "assistant", "content": "No."}]


def test_text_that_only_mentions_the_speakers_is_not_split() -> None:
    turns = parse_dialogue("\n\nHuman: Say\nHuman: or\n\nAssistants: hm\n\nAssistant: ok")
    assert [turn["content"] for turn in turns] == ["Say\nHuman: or\n\nAssistants: hm", "ok"]


def test_a_paragraph_break_stays_inside_its_turn() -> None:
    turns = parse_dialogue("\n\nHuman: a\n\nb\n\nAssistant: c\n\nd ")
    assert [turn["content"] for turn in turns] == ["a\n\nb", "c\n\nd"]


def test_oddities_are_counted_and_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "hh"
    odd: list[dict[str, object]] = [
        {"chosen": dialogue("a", "b", "c", "d"), "rejected": dialogue("a", "x", "c", "e")},
        {"chosen": dialogue("a", "b"), "rejected": dialogue("a", "b")},
        {"chosen": "\n\nHuman: a\n\nAssistant:", "rejected": dialogue("a", "b")},
        {"chosen": dialogue("a", "b", "c"), "rejected": dialogue("a", "b", "c")},
        {"chosen": "no dialogue", "rejected": dialogue("a", "b")},
    ]
    write(folder / "test.jsonl", [*odd, good(1)])
    data = read_hh(folder, "test")
    assert data.report.rows == 6
    assert [pair.pair_id for pair in data.pairs] == ["test:5"]
    assert data.report.skipped == {
        DIALOGUES_PART: 1,
        IDENTICAL_RESPONSES: 1,
        EMPTY_RESPONSE: 1,
        NO_ASSISTANT_TURN: 1,
        NO_DIALOGUE: 1,
    }


def test_one_file_is_split_without_a_shared_prompt(tmp_path: Path) -> None:
    # Every prompt occurs twice: both rows must fall on the same side.
    file = write(tmp_path / "all.jsonl", [good(i % 100) for i in range(200)])
    train, test = (read_hh(file, split).pairs for split in ("train", "test"))
    assert len(train) + len(test) == 200
    assert 20 <= len(test) <= 70
    assert not {str(p.prompt) for p in train} & {str(p.prompt) for p in test}
    assert {p.pair_id for p in train + test} == {f"all:{i}" for i in range(200)}
    assert read_hh(file, "test").pairs == test


def test_folder_takes_the_files_named_after_the_split(tmp_path: Path) -> None:
    write(tmp_path / "a" / "train.jsonl.gz", [good(0)])
    write(tmp_path / "pairs_train.jsonl", [good(1)])
    write(tmp_path / "b" / "test.jsonl", [good(2)])
    write(tmp_path / "corpus.jsonl", [{"text": "constraint"}])
    assert {p.pair_id for p in read_hh(tmp_path).pairs} == {"train:0", "pairs_train:0"}
    assert [p.pair_id for p in read_hh(tmp_path, "test").pairs] == ["test:0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"chosen": dialogue("a", "b")}], "no column 'rejected'"),
        ([{"chosen": 3, "rejected": dialogue("a", "b")}], "dialogue as text, not int"),
        ([{"chosen": dialogue("a", "b"), "rejected": dialogue("a", "b")}], "all 1 were skipped"),
    ],
)
def test_unusable_data_is_the_users_to_mend(
    tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    write(tmp_path / "train.jsonl", rows)
    with pytest.raises(UserError, match=message):
        read_hh(tmp_path)


def test_unknown_split_and_empty_split_are_named(tmp_path: Path) -> None:
    many = write(tmp_path / "many.jsonl", [good(i) for i in range(50)])
    with pytest.raises(UserError, match="train and test"):
        read_hh(many, "validation")
    kept = read_hh(many, "train").pairs[0].pair_id
    one = write(tmp_path / "one.jsonl", [good(int(kept.split(":")[1]))])
    assert len(read_hh(one, "train").pairs) == 1
    with pytest.raises(UserError, match="no rows of the split 'test'"):
        read_hh(one, "test")


def test_truncated_gzip_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "train.jsonl.gz", [good(i) for i in range(300)])
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"train\.jsonl\.gz"):
        read_hh(tmp_path)
