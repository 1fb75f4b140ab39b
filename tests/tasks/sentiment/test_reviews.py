from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.sentiment.reviews import (
    pair_texts,
    read_preferences,
    read_reviews,
    read_samples,
    read_scored_pairs,
)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(index: int, chosen: Any, rejected: Any) -> dict[str, Any]:
    return {"prompt": f"Review {index} was", "chosen": chosen, "rejected": rejected}


def scored(text: str, score: float | None) -> dict[str, Any]:
    return {"text": text, "score": score}


def test_reviews_are_cleaned_and_split_by_their_text(tmp_path: Path) -> None:
    rows = [{"text": f"Review {i}.<br /><br />It  was\nlong.", "label": i % 2} for i in range(200)]
    rows += [{"text": "   ", "label": 0}, {"text": "No label.", "label": None}]
    path = write(tmp_path / "reviews.jsonl", rows)
    train, test = read_reviews(path, "train"), read_reviews(path, "test")
    assert not set(train.texts) & set(test.texts)
    assert len(train.texts) + len(test.texts) == 201
    assert 20 < len(test.texts) < 60
    assert all(text.endswith("It was long.") or text == "No label." for text in train.texts)
    assert {"empty text": 1} in (dict(train.report.skipped), dict(test.report.skipped))
    assert set(train.labels) | set(test.labels) == {0, 1, None}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"review": "good"}], "no column 'text'; its columns are review"),
        ([{"text": 3}], "'text' is a number"),
        ([{"text": "good", "label": "pos"}], "the label is 'pos'"),
        ([{"text": ""}], "no usable review"),
    ],
)
def test_reviews_of_the_wrong_shape(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    path = write(tmp_path / "reviews.jsonl", rows)
    with pytest.raises(UserError, match=message):
        read_both(path)


def read_both(path: Path) -> None:
    for split in ("train", "test"):
        read_reviews(path, split)


def test_reviews_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.jsonl", [{"text": "good"}])
    with pytest.raises(UserError, match="no split 'dev'"):
        read_reviews(path, "dev")
    with pytest.raises(UserError, match="No such file"):
        read_reviews(tmp_path / "absent.jsonl")


def test_ready_made_pairs(tmp_path: Path) -> None:
    rows = [
        pair(0, scored("superb.", 1.9), scored("dull.", 0.2)),
        pair(1, scored(", well, good.", 1.8), scored(" bad.", 0.3)),
        pair(2, scored("fine.", 0.5), scored("fine too.", 0.5)),
        pair(3, scored("", 1.9), scored("dull.", 0.2)),
        pair(4, "good.", "bad."),
        pair(5, scored("good.", None), scored("bad.", None)),
    ]
    data = read_scored_pairs(write(tmp_path / "pairs.jsonl", rows))
    assert [p.pair_id for p in data.pairs] == ["pairs:0", "pairs:1", "pairs:4", "pairs:5"]
    # The lost space is put back before a word, not before a comma, and not twice.
    assert [p.chosen for p in data.pairs] == [" superb.", ", well, good.", " good.", " good."]
    assert data.pairs[1].rejected == " bad."
    assert data.report.skipped == {"same score": 1, "empty response": 1}
    assert list(pair_texts(data.pairs[:1])) == ["Review 0 was superb.", "Review 0 was dull."]


def test_ready_made_pairs_are_split_by_prompt(tmp_path: Path) -> None:
    rows = [pair(i // 2, scored(f"a {i}", 2.0), scored(f"b {i}", 1.0)) for i in range(100)]
    path = write(tmp_path / "pairs.jsonl", rows)
    train, test = (read_scored_pairs(path, split).pairs for split in ("train", "test"))
    assert len(train) + len(test) == 100
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    assert not {p.pair_id for p in train} & {p.pair_id for p in test}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (pair(0, scored("a", 0.1), scored("b", 0.9)), "'chosen' has the lower score"),
        (pair(0, scored("a", float("nan")), scored("b", 0.9)), "not a finite number"),
        (pair(0, scored("a", True), scored("b", 0.9)), "it must be a number"),
        (pair(0, 5, scored("b", 0.9)), "'chosen' is a number"),
        ({"prompt": "x", "good": "a", "bad": "b"}, "no column 'chosen'"),
    ],
)
def test_ready_made_pairs_of_the_wrong_shape(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_scored_pairs(write(tmp_path / "pairs.jsonl", [row]))


def test_samples_are_grouped_by_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": "It was", "text": "good", "reward": 1.9},
        {"prompt": "We saw", "text": "it", "reward": float("nan")},
        {"prompt": "It was", "text": "", "reward": 1},
    ]
    found, missing = read_samples(write(tmp_path / "samples.jsonl", rows))
    assert found == [("It was", [(" good", 1.9), ("", 1.0)])]
    assert missing == 1
    with pytest.raises(UserError, match="has no 'reward'"):
        read_samples(write(tmp_path / "bare.jsonl", [{"prompt": "a", "text": "b"}]))
    with pytest.raises(UserError, match="no sample with a finite reward"):
        read_samples(write(tmp_path / "nan.jsonl", rows[1:2]))


def test_pairs_come_of_either_schema(tmp_path: Path) -> None:
    samples = [
        {"prompt": f"Film {i} was", "text": text, "reward": reward}
        for i in range(40)
        for text, reward in (("bad", 0.1), ("good", 1.9), ("better", 1.99))
    ]
    samples.append({"prompt": "alone", "text": "x", "reward": 1.0})
    samples.append({"prompt": "alone", "text": "x", "reward": float("nan")})
    path = write(tmp_path / "samples.jsonl", samples)
    train, test = (read_preferences(path, split) for split in ("train", "test"))
    assert len(train.pairs) + len(test.pairs) == 40
    assert {(p.chosen, p.rejected) for p in train.pairs} == {(" good", " bad")}
    assert not {p.prompt for p in train.pairs} & {p.prompt for p in test.pairs}
    assert train.report.skipped == {"a completion without a finite reward": 1}
    pairs = write(tmp_path / "pairs.jsonl", [pair(i, "a", "b") for i in range(40)])
    assert len(read_preferences(pairs, "train").pairs) > 20
    with pytest.raises(UserError, match="no split"):
        read_preferences(pairs, "all")


def test_pair_texts_are_whole() -> None:
    assert list(pair_texts([PreferencePair("a", "p", " c", " r")])) == ["p c", "p r"]
