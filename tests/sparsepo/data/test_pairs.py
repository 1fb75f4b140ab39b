"""Reading preference pairs: every accepted shape, every bad input, and what is counted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.data.pairs import build_pairs, read_pairs, read_rows
from sparsepo.errors import UserError

TEXT_ROW = {"prompt": "Say hi.", "chosen": " Hi!", "rejected": " No."}
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hi."}]
GOOD = {"role": "assistant", "content": "Hi!"}
BAD = {"role": "assistant", "content": "No."}

Writer = Callable[..., Path]


@pytest.fixture
def jsonl(tmp_path: Path) -> Writer:
    def write(rows: Sequence[Any], name: str = "pairs.jsonl") -> Path:
        path = tmp_path / name
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def only(path: Path | str, **options: Any) -> tuple[Any, Any, Any]:
    (pair,) = read_pairs(path, **options).pairs
    return pair.prompt, pair.chosen, pair.rejected


def message_of(path: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_pairs(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- accepted shapes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz", "pairs.json"])
def test_text_rows_from_each_kind_of_json_file(jsonl: Writer, name: str) -> None:
    path = jsonl([TEXT_ROW], name)
    assert only(path) == ("Say hi.", " Hi!", " No.")
    assert read_pairs(path).pairs[0].pair_id == "pairs:0"


def test_a_json_array_is_read_like_lines(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([TEXT_ROW, TEXT_ROW], indent=2))
    assert [pair.pair_id for pair in read_pairs(path).pairs] == ["pairs:0", "pairs:1"]


def test_gzip_is_known_by_its_content_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(TEXT_ROW).encode()))
    assert only(path)[0] == "Say hi."


def test_parquet_with_chat_messages(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    row = {"prompt": CHAT, "chosen": [GOOD], "rejected": [BAD]}
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert only(path) == (CHAT, [GOOD], [BAD])


def test_folder_in_the_hub_layout_and_its_splits(
    tmp_path: Path, jsonl: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    jsonl([TEXT_ROW], "set/train.jsonl")
    jsonl([{**TEXT_ROW, "prompt": "Test."}], "set/test.jsonl")
    assert only(folder)[0] == "Say hi."
    assert only(folder, split="test")[0] == "Test."
    assert read_pairs(folder).pairs[0].pair_id == "set:train:0"
    assert "nosuch" in message_of(folder, split="nosuch")


def test_folder_saved_by_datasets(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list([TEXT_ROW])
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "two")
    assert (
        only(tmp_path / "one") == only(tmp_path / "two", split="test") == tuple(TEXT_ROW.values())
    )
    assert "it has train, test" in message_of(tmp_path / "two", split="dev")


def test_chosen_and_rejected_objects_with_text_and_score(jsonl: Writer) -> None:
    row = {"prompt": "A", "chosen": {"text": "b", "score": 1.9}, "rejected": {"text": "c"}}
    assert only(jsonl([row])) == ("A", "b", "c")


def test_shared_messages_are_the_prompt_up_to_the_last_turn_that_is_not_the_assistants(
    jsonl: Writer,
) -> None:
    earlier = [*CHAT, GOOD, {"role": "user", "content": "Again."}]
    row = {"chosen": [*earlier, GOOD, GOOD], "rejected": [*earlier, GOOD, BAD]}
    assert only(jsonl([row])) == (earlier, [GOOD, GOOD], [GOOD, BAD])


@pytest.mark.parametrize(
    ("prompt", "lead", "expected"),
    [
        ("Say hi.", [], CHAT[1:]),
        ("Say hi.", CHAT, CHAT),
        (CHAT, [], CHAT),
        (CHAT, CHAT, CHAT),
        (CHAT[:1], CHAT[1:], CHAT),
    ],
    ids=["text", "text repeated in full", "messages", "messages repeated", "continued"],
)
def test_a_prompt_beside_chat_responses(
    jsonl: Writer, prompt: Any, lead: list[Any], expected: Any
) -> None:
    row = {"prompt": prompt, "chosen": [*lead, GOOD], "rejected": [*lead, BAD]}
    assert only(jsonl([row])) == (expected, [GOOD], [BAD])


def test_text_responses_to_a_chat_prompt_are_the_assistants(jsonl: Writer) -> None:
    row = {"prompt": CHAT, "chosen": "Hi!", "rejected": "No."}
    assert only(jsonl([row])) == (CHAT, [GOOD], [BAD])


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("Q: 1+1? A: two", "Q: 1+1? A: three", ("Q: 1+1? A:", " two", " three")),
        ("So it is good", "So it is great", ("So it is", " good", " great")),
        ("Now go", "Now go on", ("Now", " go", " go on")),
        ("a\n\nb", "a\n\nc", ("a", "\n\nb", "\n\nc")),
        ("yes", "no", ("", "yes", "no")),
        ("good", "great", ("", "good", "great")),
    ],
)
def test_shared_text_is_the_prompt_up_to_the_last_white_space(
    jsonl: Writer, chosen: str, rejected: str, expected: tuple[str, str, str]
) -> None:
    assert only(jsonl([{"chosen": chosen, "rejected": rejected}])) == expected


@given(
    shared=st.text(alphabet="ab \n", max_size=12),
    left=st.text(alphabet="abc ", min_size=1, max_size=6),
    right=st.text(alphabet="abc ", min_size=1, max_size=6),
)
def test_splitting_shared_text_loses_nothing_and_leaves_two_responses(
    shared: str, left: str, right: str
) -> None:
    from sparsepo.data.pairs import SkipRow, _split_shared_text

    if left == right:
        with pytest.raises(SkipRow):
            _split_shared_text(shared + left, shared + right)
        return
    prompt, chosen, rejected = _split_shared_text(shared + left, shared + right)
    assert prompt + chosen == shared + left
    assert prompt + rejected == shared + right
    assert chosen
    assert rejected
    assert chosen != rejected
    assert prompt == prompt.rstrip()


# --- ids ----------------------------------------------------------------------------------------


def test_ids_are_the_rows_own_or_the_file_and_row_and_never_twice_the_same(jsonl: Writer) -> None:
    rows = [
        {**TEXT_ROW, "pair_id": "first", "id": "other"},
        {**TEXT_ROW, "id": 7},
        {**TEXT_ROW, "chosen": ""},
        {**TEXT_ROW, "id": None},
        {**TEXT_ROW, "id": "first"},
        {**TEXT_ROW, "id": True},
    ]
    ids = [pair.pair_id for pair in read_pairs(jsonl(rows)).pairs]
    assert ids == ["first", "7", "pairs:3", "first#2", "pairs:5"]


# --- rows that are skipped and counted ----------------------------------------------------------


def test_rows_without_a_preference_are_skipped_and_counted(jsonl: Writer) -> None:
    rows = [
        TEXT_ROW,
        {"prompt": "p", "chosen": "c"},
        {"prompt": "p", "chosen": None, "rejected": "r"},
        {"prompt": "p", "chosen": float("nan"), "rejected": "r"},
        {"prompt": "p", "chosen": " \n", "rejected": "r"},
        {"prompt": "p", "chosen": "same", "rejected": "same"},
        {"prompt": None, "chosen": "c", "rejected": "r"},
        {"chosen": "c", "rejected": "r"},
    ]
    report = read_pairs(jsonl(rows)).report
    assert (report.rows, report.kept) == (8, 1)
    assert report.skipped == {
        "missing response": 3,
        "empty response": 1,
        "identical responses": 1,
        "missing prompt": 2,
    }
    assert str(report).endswith(
        "pairs.jsonl: 1 of 8 rows kept; skipped: 3 missing response, "
        "1 empty response, 1 identical responses, 2 missing prompt"
    )


def test_chat_rows_without_a_preference_are_skipped_and_counted(jsonl: Writer) -> None:
    other = [{"role": "user", "content": "Something else."}]
    blank = {"role": "assistant", "content": " "}
    rows = [
        {"chosen": [*CHAT, GOOD], "rejected": [*CHAT, BAD]},
        {"chosen": [*CHAT, GOOD], "rejected": [*other, BAD]},
        {"chosen": CHAT, "rejected": [*CHAT, BAD]},
        {"chosen": [*CHAT, blank], "rejected": [*CHAT, BAD]},
        {"chosen": [*CHAT, GOOD], "rejected": [*CHAT, GOOD]},
        {"chosen": [], "rejected": [*CHAT, GOOD]},
    ]
    assert read_pairs(jsonl(rows)).report.skipped == {
        "dialogues part before the last turn": 1,
        "no assistant turn at the end": 2,
        "empty response": 1,
        "identical responses": 1,
    }


def test_all_rows_skipped_is_an_error_with_the_reasons(jsonl: Writer) -> None:
    rows = [{**TEXT_ROW, "chosen": ""}, {**TEXT_ROW, "rejected": None}]
    message = message_of(jsonl(rows))
    assert "all 2 were skipped (1 empty response, 1 missing response)" in message


# --- data that is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["no/such/file.jsonl", "pairs.jsonl", "pairs.parquet", "a b"])
def test_a_missing_file(source: str) -> None:
    assert message_of(source) == f"No such file or folder: {source}."


def test_a_path_object_is_never_taken_for_a_hub_id() -> None:
    assert message_of(Path("nobody/nothing")) == "No such file or folder: nobody/nothing."


def test_a_name_that_is_neither_here_nor_on_the_hub() -> None:
    message = message_of("nobody/no-such-set")
    assert message.startswith(
        "'nobody/no-such-set' is neither a local file or folder nor an accessible"
    )
    assert message.endswith("check the name, or give a local file.")


@pytest.mark.parametrize("column", ["chosen", "rejected"])
def test_a_missing_column_is_named_with_the_columns_there_are(jsonl: Writer, column: str) -> None:
    row = {name: text for name, text in TEXT_ROW.items() if name != column}
    message = message_of(jsonl([row, {**row, "score": 1}]))
    assert f"has no column '{column}'; its columns are " in message
    assert message.endswith(
        ", score. Preference pairs need 'chosen' and 'rejected', and usually 'prompt'."
    )


def test_an_empty_file(jsonl: Writer) -> None:
    assert message_of(jsonl([])).endswith("contains no rows; give data with at least one.")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "chosen": 5, "rejected": "r"}, "row 0: 'chosen' is a number; it must"),
        ({"prompt": True, "chosen": "c", "rejected": "r"}, "'prompt' is true or false;"),
        ({"prompt": "p", "chosen": {"score": 1}, "rejected": "r"}, "'chosen' is an object;"),
        ({"prompt": "p", "chosen": "c", "rejected": [BAD]}, "both text or both lists"),
        ({"prompt": "p", "chosen": ["c"], "rejected": [BAD]}, "'chosen', message 0 is text;"),
        (
            {"prompt": "p", "chosen": [{"speaker": "gpt", "text": "c"}], "rejected": [BAD]},
            "message 0 has no text under 'role' (its fields: speaker, text)",
        ),
        (
            {"prompt": "p", "chosen": [{"from": "narrator", "value": "c"}], "rejected": [BAD]},
            "message 0 is from 'narrator'; use one of ShareGPT's names: system, human, user, gpt,",
        ),
        (
            {"prompt": "p", "chosen": [{"role": "assistant", "content": 1}], "rejected": [BAD]},
            "message 0 has no text under 'content'",
        ),
    ],
)
def test_wrong_types_name_the_row_and_the_column(
    jsonl: Writer, row: dict[str, Any], expected: str
) -> None:
    assert expected in message_of(jsonl([row]))


def test_a_truncated_gzip_file_names_the_last_whole_line(tmp_path: Path) -> None:
    lines = [json.dumps({**TEXT_ROW, "noise": str(i**9)}) for i in range(2000)]
    path = tmp_path / "pairs.jsonl.gz"
    whole = gzip.compress("\n".join(lines).encode())
    path.write_bytes(whole[: len(whole) // 2])
    message = message_of(path)
    assert "damaged or truncated gzip file: it ends after line " in message
    assert 0 <= int(message.split("after line ")[1].split(";")[0]) < 2000


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    whole = bytearray(gzip.compress((json.dumps(TEXT_ROW) + "\n").encode() * 50))
    whole[-6] ^= 0xFF
    path.write_bytes(whole)
    assert "damaged or truncated" in message_of(path)


def test_a_file_named_gz_that_is_not(jsonl: Writer, tmp_path: Path) -> None:
    path = jsonl([TEXT_ROW]).rename(tmp_path / "pairs.jsonl.gz")
    assert "is named .gz but is not a gzip file" in message_of(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"chosen": ', "line 3 is not valid JSON"),
        (b"[1, 2]", "line 3 is a list; each line must be a JSON object"),
        (b'"text"', "line 3 is text;"),
        (b'{"chosen": "caf\xe9", "rejected": "b"}', "line 3 is not UTF-8"),
    ],
)
def test_a_broken_line_is_named(jsonl: Writer, line: bytes, expected: str) -> None:
    path = jsonl([TEXT_ROW])
    # A blank line counts as a line, but not as a row.
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    assert expected in message_of(path)


def test_a_broken_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text('[\n{"chosen": "a",}\n]')
    assert "line 2 is not valid JSON" in message_of(path)
    path.write_text("[\n3]")
    assert "item 0 is a number" in message_of(path)
    path.write_bytes(b'[\n"caf\xe9"]')
    assert "line 2 is not UTF-8" in message_of(path)


def test_a_broken_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    path.write_bytes(b"PAR1 not really")
    assert "is not a readable Parquet file" in message_of(path)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        (None, b"", "doesn't contain any data files"),
        ("train.jsonl", json.dumps(TEXT_ROW).encode() + b'\n{"prompt": \n', "JSON"),
        (
            "train.jsonl",
            b'{"prompt": "caf\xe9", "chosen": "b", "rejected": "c"}\n',
            "'utf-8' codec",
        ),
        ("train.parquet", b"PAR1 not really", "Parquet"),
        ("state.json", b"{", "is neither a `Dataset` directory nor"),
    ],
)
def test_a_broken_folder_is_one_sentence_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    file: str | None,
    content: bytes,
    expected: str,
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    if file is not None:
        (folder / file).write_bytes(content)
    message = message_of(folder)
    assert "set cannot be read as a data set: " in message
    assert expected in message
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_the_building_blocks_serve_another_schema(jsonl: Writer) -> None:
    path = jsonl([{"q": "a", "good": "b", "bad": "c"}, {"q": "a", "good": "b", "bad": "b"}])
    data = build_pairs(
        read_rows(path), lambda row, where: (row["q"], row["good"], row["bad"]), path
    )
    assert [pair.pair_id for pair in data.pairs] == ["pairs:0"]
    assert data.report.skipped == {"identical responses": 1}


# --- what public data sets have in place of prompt, chosen and rejected -------------------------

ORCA = {"system": "Be kind.", "question": "Say hi.", "chosen": "Hi!", "rejected": "No."}
SHAREGPT = [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Say hi."}]
GPT_GOOD = {"from": "gpt", "value": "Hi!"}
GPT_BAD = {"from": "gpt", "value": "No."}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": SHAREGPT, "chosen": GPT_GOOD, "rejected": GPT_BAD},
        {"conversations": SHAREGPT, "chosen": [GPT_GOOD], "rejected": [GPT_BAD]},
        {"conversations": SHAREGPT, "chosen": "Hi!", "rejected": "No."},
        {"conversations": SHAREGPT[1:], "system": "Be kind.", "chosen": GPT_GOOD,
         "rejected": GPT_BAD},
        {"prompt": SHAREGPT, "chosen": [GPT_GOOD], "rejected": [GPT_BAD]},
        {"chosen": [*SHAREGPT, GPT_GOOD], "rejected": [*SHAREGPT, GPT_BAD]},
        {"prompt": CHAT, "chosen": GOOD, "rejected": BAD},
        {"prompt": "Say hi.", "chosen": [*CHAT, GOOD], "rejected": [*CHAT, BAD], "messages": CHAT},
        ORCA,
        {"system": "Be kind.", "input": "Say hi.", "chosen": "Hi!", "rejected": "No."},
        {**ORCA, "chosen": [CHAT[1], GOOD], "rejected": [CHAT[1], BAD]},
        {"instruction": "Say hi.", "input": "", "system": "Be kind.", "chosen": "Hi!",
         "rejected": "No."},
    ],
    ids=[
        "LLaMA-Factory's sharegpt", "sharegpt with lists", "sharegpt with text",
        "sharegpt with a system column", "sharegpt in TRL's columns", "sharegpt without a prompt",
        "single messages", "UltraFeedback binarized", "Orca DPO", "distilabel's Orca",
        "question and whole dialogues", "Alpaca",
    ],
)  # fmt: skip
def test_public_forms_of_one_pair_are_the_same_pair(jsonl: Writer, row: dict[str, Any]) -> None:
    assert only(jsonl([row])) == (CHAT, [GOOD], [BAD])


def test_an_instruction_is_followed_by_its_input_and_preceded_by_its_history(
    jsonl: Writer,
) -> None:
    row = {
        "instruction": "Sum up.",
        "input": "A tale.",
        "history": [["Hi.", "Hello."]],
        "chosen": "Once.",
        "rejected": "Twice.",
    }
    prompt, _, _ = only(jsonl([row]))
    assert [(m["role"], m["content"]) for m in prompt] == [
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "Sum up.\nA tale."),
    ]


def test_a_system_column_does_not_replace_the_dialogues_own(jsonl: Writer) -> None:
    row = {"conversations": SHAREGPT, "system": "Other.", "chosen": GPT_GOOD, "rejected": GPT_BAD}
    assert only(jsonl([row]))[0] == CHAT


def test_a_missing_question_is_skipped_and_counted(jsonl: Writer) -> None:
    path = jsonl([ORCA, {**ORCA, "question": None}, {**ORCA, "question": ""}])
    assert read_pairs(path).report.skipped == {"missing prompt": 2}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"question": 5}, "row 0: 'question' is a number; it must be text."),
        ({"system": ["x"]}, "row 0: 'system' is a list; it must be text."),
        ({"history": ["x"]}, "row 0: 'history' must be a list of [question, answer]."),
        ({"images": ["a.png"]}, "row 0 has images, but training supports only text"),
    ],
)
def test_wrong_types_in_other_columns(jsonl: Writer, change: dict[str, Any], expected: str) -> None:
    assert expected in message_of(jsonl([{**ORCA, **change}]))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("question response_j response_k", "Rename 'response_j' to 'chosen' and 'response_k' to"),
        ("instruction chosen_response rejected_response", "Rename 'chosen_response' to 'chosen'"),
        ("prompt response_0 response_1 better_response_id", "the better one of 'response_0' and"),
        ("conversation_a response_a response_b winner", "the better one of 'response_a' and"),
        (
            "prompt completion label",
            "These are rated single answers, which only the methods for unpaired data",
        ),
        ("instruction completions", "Write the better of its 'completions' under 'chosen'"),
        ("instruction input output", "Write the better of its 'output' under 'chosen'"),
        ("conversations", "These are single answers; a preference needs"),
        ("messages", "These are single answers; a preference needs"),
        ("prompt", "Preference pairs need 'chosen' and 'rejected', and usually 'prompt'."),
    ],
)
def test_other_shapes_are_refused_with_the_remedy(
    jsonl: Writer, columns: str, expected: str
) -> None:
    message = message_of(jsonl([dict.fromkeys(columns.split(), "text")]))
    assert f"has no column 'chosen'; its columns are {', '.join(columns.split())}." in message
    assert expected in message


def test_a_column_that_may_be_the_prompt_is_not_passed_over(jsonl: Writer) -> None:
    row = {"query": "Say hi.", "chosen": "Hi!", "rejected": "No."}
    assert "no column 'prompt', but a column 'query'; rename it" in message_of(jsonl([row]))
    whole = {"messages": CHAT, "chosen": [*CHAT, GOOD], "rejected": [*CHAT, BAD]}
    assert only(jsonl([whole])) == (CHAT, [GOOD], [BAD])


def test_chat_responses_without_any_prompt_are_skipped_and_counted(jsonl: Writer) -> None:
    rows = [{"chosen": [GOOD], "rejected": [BAD]}, {"chosen": [*CHAT, GOOD], "rejected": [BAD]}]
    rows.append({"chosen": [*CHAT, GOOD], "rejected": [*CHAT, BAD]})
    assert read_pairs(jsonl(rows)).report.skipped == {
        "missing prompt": 1,
        "dialogues part before the last turn": 1,
    }


def test_columns_from_which_nothing_is_taken_are_named(jsonl: Writer) -> None:
    report = read_pairs(jsonl([{**TEXT_ROW, "id": 3, "score": 1, "tools": [{"name": "f"}]}])).report
    assert report.unused_columns == ("score", "tools")
    assert str(report).endswith("1 of 1 rows kept; columns not used: score, tools")
    assert report.counts() == {"rows": 1, "kept": 1, "skipped": {}}
    chat = {"prompt": CHAT, "chosen": [GOOD], "rejected": [BAD], "tools": [{"name": "f"}]}
    assert read_pairs(jsonl([chat])).report.unused_columns == ()


# --- what has to keep holding -------------------------------------------------------------------


def test_carriage_returns_end_lines_and_stay_in_texts(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "a\r\nb", "chosen": " c\r\n", "rejected": " d"}
    path.write_bytes((json.dumps(row) + "\r\n\r\n" + json.dumps(row) + "\r\n").encode())
    assert [pair.prompt for pair in read_pairs(path).pairs] == ["a\r\nb", "a\r\nb"]
    assert read_pairs(path).pairs[0].chosen == " c\r\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes((json.dumps({**TEXT_ROW, "prompt": "é"}, ensure_ascii=False)).encode(encoding))
    assert "pairs.jsonl, line 1 is not" in message_of(path)


def test_lone_surrogates_are_skipped_and_whole_pairs_of_them_are_text(jsonl: Writer) -> None:
    broken = {**TEXT_ROW, "chosen": "half \ud83d"}
    chat = {"prompt": CHAT, "chosen": [{**GOOD, "content": "\udfff"}], "rejected": [BAD]}
    whole = {**TEXT_ROW, "chosen": "\ud83d\ude00"}
    data = read_pairs(jsonl([broken, chat, whole]))
    assert data.report.skipped == {"text with lone surrogates, which is not Unicode": 2}
    assert data.pairs[0].chosen == "\N{GRINNING FACE}"
