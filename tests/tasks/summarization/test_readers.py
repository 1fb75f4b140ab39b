import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from sparsepo.data.pairs import (
    EMPTY_RESPONSE,
    IDENTICAL_RESPONSES,
    MISSING_PROMPT,
    MISSING_RESPONSE,
    NOT_UNICODE,
)
from sparsepo.errors import UserError
from tasks.summarization.filters import LENGTHS_DIFFER, draw_pairs, length_difference
from tasks.summarization.readers import REPEATED, read_prompts, read_tldr
from tasks.summarization.schemas import (
    EMPTY_POST,
    EQUAL_RATINGS,
    FEW_RATINGS,
    NO_POST,
    NO_RATING,
    document_of,
    make_prompt,
)

Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def info(number: int = 0, **changes: Any) -> Row:
    return {
        "id": f"t3_{number}",
        "post": f"Post {number}.",
        "title": "A title",
        "subreddit": "advice",
        "site": None,
        "article": None,
        **changes,
    }


def comparison(number: int = 0, choice: Any = 0, **changes: Any) -> Row:
    return {
        "info": info(number),
        "summaries": [
            {"text": f" First {number}.", "policy": "sup1", "note": None},
            {"text": " Second.", "policy": "ref", "note": None},
        ],
        "choice": choice,
        "worker": "w",
        **changes,
    }


def rated(number: int = 0, rewards: Any = (3, 6, 6), **changes: Any) -> Row:
    responses = [" low", " high", " also high"][: len(rewards)]
    return {"post": f"Post {number}.", "responses": responses, "rewards": list(rewards), **changes}


def pair(number: int = 0, **changes: Any) -> Row:
    prompt = make_prompt(f"Post {number}.", "A title", "advice")
    return {"prompt": prompt, "chosen": " Good.", "rejected": " Bad.", **changes}


def texts(data: Any) -> list[tuple[str, str, str]]:
    return [
        (one.prompt[-1]["content"], one.chosen[-1]["content"], one.rejected[-1]["content"])
        for one in data.pairs
    ]


FULL = "SUBREDDIT: r/advice\n\nTITLE: A title\n\nPOST: Post 0.\n\nTL;DR:"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (comparison(), (FULL, "First 0.", "Second.")),
        (comparison(choice=1), (FULL, "Second.", "First 0.")),
        (pair(), (FULL, "Good.", "Bad.")),
        (rated(), ("Post 0.\n\nTL;DR:", "high", "low")),
        (rated(rewards=(6.5, 2)), ("Post 0.\n\nTL;DR:", "low", "high")),
    ],
)
def test_every_schema_becomes_a_preference(
    tmp_path: Path, row: Row, expected: tuple[str, str, str]
) -> None:
    data = read_tldr(write(tmp_path / "train.jsonl", [row]).parent)
    assert texts(data) == [expected]
    assert data.pairs[0].pair_id == "train:0"


def test_ratings_of_one_post_on_several_rows_are_put_together(tmp_path: Path) -> None:
    def axis(number: int, text: str, overall: float | None) -> Row:
        return {"info": info(number), "summary": {"text": text, "axes": {"overall": overall}}}

    rows = [
        axis(0, " fair", 4),
        axis(1, " alone", 5),
        axis(0, " best", 7),
        axis(2, " a", 3),
        axis(2, " b", 3),
        axis(3, " c", None),
        axis(3, " d", 3),
        {
            "info": info(4, post=None, article="News."),
            "summary": {"text": "n", "axes": {"overall": 2}},
        },
    ]
    data = read_tldr(write(tmp_path / "train.jsonl", rows).parent)
    assert texts(data) == [(FULL, "best", "fair")]
    assert data.report.rows == 5
    assert data.report.skipped == {FEW_RATINGS: 1, EQUAL_RATINGS: 1, NO_RATING: 1, NO_POST: 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (comparison(info=info(post="  ")), EMPTY_POST),
        (comparison(info=info(post=None)), EMPTY_POST),
        (comparison(info=info(post=None, article="News.")), NO_POST),
        (comparison(summaries=[{"text": None}, {"text": "b"}]), MISSING_RESPONSE),
        (comparison(summaries=[{"text": " a"}, {"text": "a "}]), IDENTICAL_RESPONSES),
        (comparison(summaries=[{"text": " "}, {"text": "a"}]), EMPTY_RESPONSE),
        (pair(prompt=None), MISSING_PROMPT),
        (pair(prompt="TL;DR:"), EMPTY_POST),
        (pair(chosen=None), MISSING_RESPONSE),
        (pair(chosen=math.nan), MISSING_RESPONSE),
        (pair(rejected=""), EMPTY_RESPONSE),
        (pair(rejected="\ud800"), NOT_UNICODE),
        (pair(chosen="word " * 103), LENGTHS_DIFFER.format(100)),
        (rated(rewards=(3,)), FEW_RATINGS),
        (rated(rewards=()), FEW_RATINGS),
        (rated(rewards=(3, 3, 3)), EQUAL_RATINGS),
        (rated(rewards=(3, math.nan)), NO_RATING),
        (rated(rewards=(3, math.inf)), NO_RATING),
        (rated(post=""), EMPTY_POST),
    ],
)
def test_rows_without_a_preference_are_counted_and_skipped(
    tmp_path: Path, row: Row, reason: str
) -> None:
    good = {"info": comparison, "responses": rated}.get(
        next((name for name in ("info", "responses") if name in row), ""), pair
    )(7)
    data = read_tldr(write(tmp_path / "train.jsonl", [good, row]).parent)
    assert len(data) == 1
    assert data.report.skipped == {reason: 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, r"has the columns text, which are not TL;DR's"),
        ({}, "of an empty row"),
        (comparison(choice=2), "'choice' should be 0 or 1, not 2"),
        (comparison(choice=True), "'choice' should be 0 or 1, not True"),
        (comparison(choice=None), "'choice' should be 0 or 1, not None"),
        (comparison(summaries=[{"text": "a"}]), "a list of two summaries"),
        (comparison(summaries="ab"), "a list of two summaries"),
        (comparison(summaries=["a", "b"]), "'summaries' should be an object, not str"),
        (comparison(info="x"), "'info' should be an object, not str"),
        (comparison(info=info(post=3)), "'post' should be text, not int"),
        (pair(chosen=3), "'chosen' should be text, not int"),
        (pair(prompt=["x"]), "'prompt' should be text, not list"),
        (rated(responses="x"), "'responses' and 'rewards' should be lists"),
        (rated(responses=["a"]), "1 responses have 3 rewards"),
        (rated(rewards=("good", 3)), "a rating should be a number, not str"),
        (rated(rewards=(True, 3)), "a rating should be a number, not bool"),
        (pair(chosen=" "), "all 1 were skipped"),
    ],
)
def test_malformed_data_is_the_users_to_fix(tmp_path: Path, row: Row, message: str) -> None:
    write(tmp_path / "train.jsonl", [row])
    with pytest.raises(UserError, match=message):
        read_tldr(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no rows"), (b"{", "not valid JSON"), (b"\x1f\x8b", "gz"), (b"[1]\n", "object")],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "tldr.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tldr(file)


def test_unknown_split_and_missing_file() -> None:
    with pytest.raises(UserError, match="TL;DR has no split 'dev'"):
        read_tldr("x", "dev")
    with pytest.raises(UserError, match="No such file"):
        read_tldr("missing.jsonl")


def test_one_file_is_split_without_a_shared_post(tmp_path: Path) -> None:
    for rows in ([comparison(i % 60) for i in range(120)], [pair(i % 60) for i in range(120)]):
        file = write(tmp_path / "all.jsonl.gz", rows)
        train, test = (read_tldr(file, split) for split in ("train", "test"))
        assert len(train) + len(test) == 120
        assert 4 <= len(test) <= 50
        assert not {t[0] for t in texts(train)} & {t[0] for t in texts(test)}


def test_length_filter_can_be_turned_off(tmp_path: Path) -> None:
    folder = write(tmp_path / "train.jsonl", [pair(chosen="word " * 300)]).parent
    assert len(read_tldr(folder, longest_difference=None)) == 1
    assert length_difference("a b  c", "a") == 2


def test_pairs_are_drawn_without_replacement_in_their_order(tmp_path: Path) -> None:
    folder = write(tmp_path / "train.jsonl", [pair(i) for i in range(50)]).parent
    pairs = read_tldr(folder).pairs
    drawn = draw_pairs(pairs, 20, seed=1)
    assert len({one.pair_id for one in drawn}) == 20
    assert [p for p in pairs if p in drawn] == drawn
    assert draw_pairs(pairs, 20, seed=1) == drawn != draw_pairs(pairs, 20, seed=2)
    assert draw_pairs(pairs, None, 0) == draw_pairs(pairs, 99, 0) == pairs
    with pytest.raises(UserError, match="at least 1, not 0"):
        draw_pairs(pairs, 0, 0)


def test_prompts_with_references(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": FULL, "summary": " Short. "},
        {"prompt": FULL, "summary": "again"},
        {"prompt": "TL;DR:", "summary": "x"},
        {"prompt": "p\n\nTL;DR:", "summary": None},
        {"prompt": "q\n\nTL;DR:", "summary": " "},
    ]
    data = read_prompts(write(tmp_path / "prompts.jsonl", rows))
    assert [(p.prompt_id, p.prompt, p.reference) for p in data.prompts] == [
        ("prompt:0", FULL, "Short.")
    ]
    assert data.counts()["skipped"] == {
        REPEATED: 1,
        EMPTY_POST: 1,
        MISSING_RESPONSE: 1,
        EMPTY_RESPONSE: 1,
    }


@pytest.mark.parametrize("column", ["summary", "label", "completion"])
def test_references_have_other_names_on_the_hub(tmp_path: Path, column: str) -> None:
    row = {"subreddit": "advice", "title": "A title", "post": "Post 0.", column: "s"}
    (prompt,) = read_prompts(write(tmp_path / "p.jsonl", [row])).prompts
    assert (prompt.prompt, prompt.reference) == (FULL, "s")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "x"}], "posts need 'summary'"),
        ([{"summary": "x"}], "posts need 'summary'"),
        ([{"prompt": "x", "summary": 3}], "'summary' should be text, not int"),
        ([{"prompt": 3, "summary": "x"}], "'prompt' should be text, not int"),
        ([{"prompt": "", "summary": "x"}], "No usable row"),
        ([], "it has none"),
    ],
)
def test_unusable_prompts(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_prompts(write(tmp_path / "p.jsonl", rows))


@pytest.mark.parametrize(
    ("prompt", "document"),
    [(FULL, "Post 0."), ("Post 0.\n\nTL;DR:", "Post 0."), ("In POST: x", "In POST: x")],
)
def test_document_is_the_post_alone(prompt: str, document: str) -> None:
    assert document_of(prompt) == document
