"""Messages: every field that a template can use is kept, in the form that templates take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.data import pairs_of_rows, read_pairs
from sparsepo.data.messages import (
    SHAREGPT_ROLES,
    chat_template_kwargs,
    is_blank,
    to_message,
    to_messages,
    without_nulls,
)
from sparsepo.errors import UserError

USER = {"role": "user", "content": "How is Oslo?"}
WEATHER = {"name": "weather", "arguments": {"city": "Oslo"}}
CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": WEATHER}],
}
TOOL = {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"}
GOOD = {"role": "assistant", "content": "It rains.", "reasoning_content": "The tool says so."}
BAD = {"role": "assistant", "content": "Sun."}


def schema(name: str, **properties: str) -> dict[str, Any]:
    described = {key: {"type": kind} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": described}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [schema("weather", city="string"), schema("add", a="number", b="number")]
ROW = {"prompt": [USER, CALL, TOOL], "chosen": [GOOD], "rejected": [BAD], "tools": TOOLS}


def message_of(value: Any) -> str:
    with pytest.raises(UserError) as caught:
        to_messages(value, "row 0: 'chosen'")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- fields -------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.sampled_from(["name", "tool_call_id", "reasoning_content", "thinking", "weight", "x"]),
        st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text())),
    )
)
def test_every_field_that_is_not_null_is_kept(fields: dict[str, Any]) -> None:
    message = to_message({**USER, **fields}, "here")
    assert message == {**USER, **{key: v for key, v in fields.items() if v is not None}}


def test_a_conversation_with_calls_tools_and_reasoning_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(ROW))
    (pair,) = read_pairs(path).pairs
    assert pair.prompt == ROW["prompt"]
    assert (pair.chosen, pair.rejected) == ([GOOD], [BAD])
    assert pair.chat_template_kwargs == {"tools": TOOLS}


@pytest.mark.parametrize("form", ["parquet", "save_to_disk", "list", "Dataset"])
def test_fields_that_arrow_adds_are_dropped(tmp_path: Path, form: str) -> None:
    """A column's objects all have the fields of each: null where a row had none."""
    plain = {"prompt": [USER], "chosen": [BAD], "rejected": [GOOD], "tools": TOOLS[1:]}
    rows = [ROW, plain, {**ROW, "tools": None}]
    if form == "parquet":
        source: Any = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(rows), source)
    else:
        source = tmp_path / "set"
        dataset = datasets.Dataset.from_list(rows)
        dataset.save_to_disk(source)
    if form in ("list", "Dataset"):
        given = rows if form == "list" else dataset
        data = pairs_of_rows(given, "rows", arrow=form == "Dataset")
    else:
        data = read_pairs(source)
    first, second, third = data.pairs
    assert first.prompt == ROW["prompt"]
    assert first.chosen == [GOOD]
    assert first.chat_template_kwargs == {"tools": TOOLS}
    assert (second.prompt, second.chosen) == ([USER], [BAD])
    assert second.chat_template_kwargs == {"tools": TOOLS[1:]}
    assert third.chat_template_kwargs == {}


def test_nulls_in_json_files_are_the_users_own(tmp_path: Path) -> None:
    call = {"name": "weather", "arguments": {"city": None}}
    row = {**ROW, "prompt": [USER, {"role": "assistant", "tool_calls": [{"function": call}]}, TOOL]}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row]))
    assert read_pairs(path).pairs[0].prompt[1]["tool_calls"][0]["function"] == call  # type: ignore[index]


def test_nulls_are_dropped_from_objects_and_stay_in_lists() -> None:
    nested = {"a": None, "b": [None, {"c": None, "d": 0}], "e": {"f": {"g": None}}}
    assert without_nulls(nested) == {"b": [None, {"d": 0}], "e": {"f": {}}}


# --- calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_calls",
    [
        [{"id": "c1", "type": "function", "function": WEATHER}],
        [
            {
                "id": "c1",
                "type": "function",
                "function": {**WEATHER, "arguments": '{"city": "Oslo"}'},
            }
        ],
        json.dumps([{"id": "c1", "type": "function", "function": WEATHER}]),
    ],
    ids=["data", "arguments as OpenAI writes them", "JSON text"],
)
@pytest.mark.parametrize("content", [None, ...], ids=["null content", "no content"])
def test_calls_are_data_however_they_are_written(given_calls: Any, content: Any) -> None:
    item = {"role": "assistant", "tool_calls": given_calls}
    assert to_message(item if content is ... else {**item, "content": content}, "here") == CALL


def test_calls_without_a_function_object_and_the_former_function_call() -> None:
    flat = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a": [1]}'}]}
    assert to_message(flat, "here")["tool_calls"] == [{"name": "f", "arguments": {"a": [1]}}]
    former = {"role": "assistant", "content": None, "function_call": WEATHER}
    assert to_message(former, "here")["tool_calls"] == [{"type": "function", "function": WEATHER}]


@pytest.mark.parametrize("arguments", ["not JSON", "[1]", "", '{"broken": '])
def test_arguments_that_are_no_json_object_stay_text(arguments: str) -> None:
    call = {"name": "f", "arguments": arguments}
    message = to_message({"role": "assistant", "tool_calls": [call]}, "here")
    assert message["tool_calls"] == [call]


def test_an_empty_list_of_calls_is_no_call() -> None:
    message = to_message({"role": "assistant", "content": "Hi", "tool_calls": []}, "here")
    assert message == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("calls", ["call f", {"name": "f"}, [1], 5])
def test_calls_of_another_type_are_refused(calls: Any) -> None:
    message = message_of([{"role": "assistant", "tool_calls": calls}])
    assert "message 0: 'tool_calls' is " in message


def test_a_response_that_is_a_call_is_no_empty_response(tmp_path: Path) -> None:
    other = {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {}}]}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": [USER], "chosen": [CALL], "rejected": [other]}))
    (pair,) = read_pairs(path).pairs
    assert pair.chosen == [CALL]
    assert not is_blank([CALL])
    assert is_blank([{"role": "assistant", "content": " \n", "name": "x"}])


# --- content ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "It rains."}], "It rains."),
        ([{"type": "text", "text": "It "}, {"type": "text", "text": "rains."}], "It rains."),
        ([{"type": "text", "text": "It rains.", "image": None}], "It rains."),
        ([{"text": "It rains."}], "It rains."),
        ([{"type": "output_text", "text": "It rains."}], "It rains."),
        (["It rains."], "It rains."),
        ([], ""),
    ],
)
def test_text_parts_are_text(content: list[Any], text: str) -> None:
    assert to_message({"role": "user", "content": content}, "here")["content"] == text


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image", "image": "a.png"},
            "a part of type 'image'; training supports only text parts",
        ),
        ({"type": "image_url", "image_url": {"url": "x"}}, "a part of type 'image_url'; training"),
        ({"type": "input_audio", "data": "x"}, "a part of type 'input_audio'; training"),
        ({"type": "text", "text": None}, "a part of type 'text' without text; remove"),
        (5, "has a number among its parts; a part must be text."),
    ],
)
def test_other_parts_are_refused_by_their_type(part: Any, expected: str) -> None:
    text = {"type": "text", "text": "See this."}
    message = message_of([{"role": "user", "content": [text, part]}])
    assert message.startswith("row 0: 'chosen', message 0 ")
    assert expected in message


def test_a_tool_may_answer_with_data() -> None:
    assert to_message({**TOOL, "content": {"sky": "grey"}}, "x")["content"] == {"sky": "grey"}
    assert "no text under 'content'" in message_of([{**USER, "content": {"sky": "grey"}}])


def test_a_message_with_nothing_in_place_of_content_is_refused() -> None:
    assert "has no text under 'content' (its fields: role, name)" in message_of(
        [{"role": "assistant", "name": "x"}]
    )
    assert "has no text under 'role'" in message_of([{"role": None, "content": "x"}])


# --- ShareGPT -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SHAREGPT_ROLES if name != "function_call"])
def test_sharegpts_names_are_roles(name: str) -> None:
    message = to_message({"from": name, "value": "text", "weight": 1}, "here")
    assert message == {"role": SHAREGPT_ROLES[name], "content": "text", "weight": 1}


def test_sharegpts_function_calls_are_calls() -> None:
    value = json.dumps(WEATHER)
    message = to_message({"from": "function_call", "value": value}, "here")
    assert message == {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": WEATHER}],
    }
    assert "must be a call as JSON" in message_of([{"from": "function_call", "value": "f(1)"}])


# --- what else the template gets ----------------------------------------------------------------


@pytest.mark.parametrize("as_text", [False, True])
def test_tools_documents_and_arguments_reach_the_template(as_text: bool) -> None:
    given = {
        "tools": TOOLS,
        "documents": [{"title": "t", "text": "x"}],
        "chat_template_kwargs": {"enable_thinking": False, "nothing": None},
    }
    row = {key: json.dumps(value) if as_text else value for key, value in given.items()}
    assert chat_template_kwargs(row, "row 0") == {
        "tools": TOOLS,
        "documents": [{"title": "t", "text": "x"}],
        "enable_thinking": False,
    }


@pytest.mark.parametrize("nothing", [None, "", [], "[]"])
def test_no_tools_are_none(nothing: Any) -> None:
    assert chat_template_kwargs({"tools": nothing, "documents": nothing}, "row 0") == {}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tools": "weather"}, "row 0: 'tools' is text; it must be a list of objects"),
        ({"tools": ["weather"]}, "row 0: 'tools' is a list; it must be a list of objects"),
        ({"chat_template_kwargs": [1]}, "'chat_template_kwargs' is a list; it must be an object"),
        ({"chat_template_kwargs": {"tokenize": True}}, "cannot set 'tokenize'; remove it."),
    ],
)
def test_wrong_arguments_of_the_template(row: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        chat_template_kwargs(row, "row 0")
    assert expected in str(caught.value)
