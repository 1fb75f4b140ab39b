from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparsepo.data.pairs import DIALOGUES_PART, EMPTY_RESPONSE, IDENTICAL_RESPONSES
from sparsepo.data.splits import is_test
from sparsepo.errors import UserError
from tasks.dialogue.dpo_mix import read_dpo_mix

SYSTEM = {"role": "system", "content": "Be brief."}


def row(number: int, *before: dict[str, str]) -> dict[str, Any]:
    """A row in the real schema, whose metadata may be null."""
    prompt = [*before, {"role": "user", "content": f"Question {number}?"}]
    return {
        "dataset": None,
        "chosen": [*prompt, {"role": "assistant", "content": "Yes."}],
        "rejected": [*prompt, {"role": "assistant", "content": "No."}],
        "chosen_rating": None,
        "rejected_rating": None,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(one) + "\n" for one in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_system_message_and_earlier_turns_are_the_prompt(tmp_path: Path) -> None:
    turns = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    write(tmp_path / "mix" / "train.jsonl.gz", [row(0, SYSTEM, *turns)])
    (pair,) = read_dpo_mix(tmp_path / "mix").pairs
    assert pair.pair_id == "train:0"
    assert pair.prompt == [SYSTEM, *turns, {"role": "user", "content": "Question 0?"}]
    assert pair.chosen == [{"role": "assistant", "content": "Yes."}]
    assert pair.rejected == [{"role": "assistant", "content": "No."}]


def test_a_single_file_is_split_by_its_prompts(tmp_path: Path) -> None:
    rows = [row(number % 100) for number in range(200)]
    file = write(tmp_path / "mix.jsonl", rows)
    train, test = (read_dpo_mix(file, split) for split in ("train", "test"))
    assert len(train) + len(test) == 200
    assert 20 < len(test) < 60
    prompts = [{str(pair.prompt) for pair in data} for data in (train, test)]
    assert not prompts[0] & prompts[1]
    # Ids count the file's rows, so that both splits name the same ones.
    ids = {pair.pair_id for data in (train, test) for pair in data}
    assert ids == {f"mix:{number}" for number in range(200)}


def test_a_folder_in_the_hubs_layout(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        file = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        rows = [{**row(number), "dataset": "argilla/x"} for number in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), file)
    assert len(read_dpo_mix(tmp_path, "train")) == 3
    assert len(read_dpo_mix(tmp_path, "test")) == 2


def test_oddities_are_counted_and_skipped(tmp_path: Path) -> None:
    same, empty, parted, missing = row(1), row(2), row(3), row(4)
    same["rejected"] = same["chosen"]
    empty["rejected"] = [*empty["chosen"][:-1], {"role": "assistant", "content": " "}]
    parted["rejected"] = [{"role": "user", "content": "Else?"}, parted["rejected"][-1]]
    missing["chosen"] = None
    write(tmp_path / "train.jsonl", [row(0), same, empty, parted, missing])
    data = read_dpo_mix(tmp_path, "train")
    assert [pair.pair_id for pair in data] == ["train:0"]
    skipped = data.report.skipped
    assert skipped[IDENTICAL_RESPONSES] == skipped[EMPTY_RESPONSE] == skipped[DIALOGUES_PART] == 1
    assert sum(skipped.values()) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a", "chosen": []}], "row 0 has no column 'rejected'; its columns are prompt"),
        (
            [{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "x"}],
            "row 0: 'chosen' is text; it must be a list of chat messages, as in argilla/dpo-mix-7k",
        ),
        ([{"chosen": ["a"], "rejected": ["b"]}], "message 0 is text; it must have 'role'"),
    ],
)
def test_another_schema_is_one_plain_sentence(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    # In a folder no hash decides whether the split has rows.
    write(tmp_path / "train.jsonl", rows)
    with pytest.raises(UserError) as error:
        read_dpo_mix(tmp_path, "train")
    assert message in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_missing_sources_and_splits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DPO-mix has no split 'validation'"):
        read_dpo_mix(tmp_path, "validation")
    with pytest.raises(UserError):
        read_dpo_mix(tmp_path / "nothing.jsonl", "train")
    file = write(tmp_path / "mix.jsonl", [row(0)])
    other = "train" if is_test("user: Question 0?") else "test"
    with pytest.raises(UserError, match="has no rows of the split"):
        read_dpo_mix(file, other)
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"chosen": []}\n' * 50)[:-9])
    with pytest.raises(UserError, match=r"broken\.jsonl\.gz"):
        read_dpo_mix(broken, "train")
