"""Converts chat messages in the formats of public data sets to the form that chat templates take.

A message keeps every field that a template could use (`tool_calls`, `tool_call_id`, `name`,
`reasoning_content`, `thinking` …). Null fields are dropped, because Arrow adds them if another row
has the field. Four formats are converted, because templates do not support them:

- ShareGPT's `{"from": "human", "value": …}`;
- content as a list of text parts, which are joined;
- calls and their arguments as JSON text, which are decoded;
- OpenAI's former `function_call`, which becomes one tool call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sparsepo.data.rows import Row, kind_of
from sparsepo.errors import UserError
from sparsepo.types import Message

SHAREGPT_ROLES: Final = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
"""ShareGPT's name in `from` → the role in chat templates."""

TEXT_PARTS: Final = ("text", "input_text", "output_text")
"""Types of content parts that contain text."""

OWN_ARGUMENTS: Final = (
    "conversation",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "sanitize_control_tokens",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
)
"""Arguments of `apply_chat_template` that rows may not set."""


def is_message(value: Any) -> bool:
    """Return whether a value is one message, in either format."""
    return isinstance(value, Mapping) and ("role" in value or {"from", "value"} <= value.keys())


def to_messages(value: Any, where: str) -> list[Message]:
    """Return the messages in a list of messages, or a single message.

    Raises:
        UserError: the value is neither, or a message is malformed.
    """
    if is_message(value):
        return [to_message(value, where)]
    if not isinstance(value, list):
        raise UserError(f"{where} is {kind_of(value)}; it must be text or a list of messages.")
    return [to_message(item, f"{where}, message {index}") for index, item in enumerate(value)]


def to_message(item: Any, where: str) -> Message:
    """Return one message in the form that chat templates take.

    Args:
        item: the message in the data.
        where: its location, for error messages.

    Raises:
        UserError: the message has no role, no content or tool call, or content that is not text.
    """
    if not isinstance(item, Mapping):
        raise UserError(f"{where} is {kind_of(item)}; it must have 'role' and 'content'.")
    given = {key: value for key, value in item.items() if value is not None}
    if "role" not in given and {"from", "value"} <= given.keys():
        given = _from_sharegpt(given, where)
    if not isinstance(given.get("role"), str):
        raise _no_text("role", item, where)
    message = {"role": given.pop("role")}
    if "content" in given:
        message["content"] = _content(given.pop("content"), message["role"], item, where)
    if call := given.pop("function_call", None):
        given.setdefault("tool_calls", [{"type": "function", "function": call}])
    if calls := given.pop("tool_calls", None):
        message["tool_calls"] = _tool_calls(calls, f"{where}: 'tool_calls'")
    message |= given
    if not message.keys() - {"role", "name"}:
        raise _no_text("content", item, where)
    return message


def is_blank(messages: Sequence[Message]) -> bool:
    """Return whether messages contain neither text nor a tool call."""
    return not any(
        str(message.get("content", "")).strip() or message.get("tool_calls") for message in messages
    )


def chat_template_kwargs(row: Row, where: str) -> dict[str, Any]:
    """Return a row's arguments for the chat template, besides messages.

    Args:
        row: may have `tools`, `documents` and, as in TRL, `chat_template_kwargs`, each as data or
            as JSON text.
        where: the row, for error messages.

    Raises:
        UserError: one of them has the wrong type, or sets an argument that rows may not set.
    """
    found: dict[str, Any] = {}
    for name in ("tools", "documents"):
        value = _decoded(row.get(name))
        if value in (None, "", [], ()):
            continue
        if not isinstance(value, list | tuple) or any(isinstance(v, str) for v in value):
            raise UserError(
                f"{where}: '{name}' is {kind_of(value)}; it must be a list of objects, or JSON "
                "text of such a list."
            )
        found[name] = list(value)
    extra = _decoded(row.get("chat_template_kwargs"))
    if extra in (None, ""):
        return found
    if not isinstance(extra, Mapping):
        raise UserError(
            f"{where}: 'chat_template_kwargs' is {kind_of(extra)}; it must be an object."
        )
    for name in OWN_ARGUMENTS:
        if name in extra:
            raise UserError(f"{where}: 'chat_template_kwargs' cannot set '{name}'; remove it.")
    return found | {key: value for key, value in extra.items() if value is not None}


def without_nulls(value: Any) -> Any:
    """Return data without null fields of nested objects, at any depth.

    Arrow gives every object in a column the fields of all objects, with null for absent ones: each
    tool would have the parameters of all tools. Null columns of the row itself are kept.
    """
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _from_sharegpt(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    rest = {key: value for key, value in item.items() if key not in ("from", "value")}
    name, value = item["from"], item["value"]
    role = SHAREGPT_ROLES.get(str(name).lower())
    if role is None:
        raise UserError(
            f"{where} is from '{name}'; use one of ShareGPT's names: {', '.join(SHAREGPT_ROLES)}."
        )
    if name != "function_call":
        return {"role": role, "content": value, **rest}
    calls = _decoded(value)
    if isinstance(calls, Mapping):
        calls = [calls]
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise UserError(f"{where} is from 'function_call'; its value must be a call as JSON.")
    functions = [{"type": "function", "function": dict(call)} for call in calls]
    return {"role": role, "tool_calls": functions, **rest}


def _content(value: Any, role: str, item: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, str):
        return value
    # A tool may return data; templates that support tools write it as JSON.
    if role == "tool" and isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, list):
        raise _no_text("content", item, where)
    return "".join(_text_of_part(part, where) for part in value)


def _text_of_part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise UserError(f"{where} has {kind_of(part)} among its parts; a part must be text.")
    kind = part.get("type") or "text"
    if kind in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in TEXT_PARTS:
        raise UserError(f"{where} has a part of type '{kind}' without text; remove the row.")
    raise UserError(
        f"{where} has a part of type '{kind}'; training supports only text parts, so remove such "
        "rows."
    )


def _tool_calls(value: Any, where: str) -> list[dict[str, Any]]:
    calls = _decoded(value)
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise UserError(f"{where} is {kind_of(calls)}; it must be a list of calls.")
    return [_with_decoded_arguments(call) for call in calls]


def _with_decoded_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """Decode arguments that are JSON text, because templates encode them."""
    call = {key: value for key, value in call.items() if value is not None}
    if isinstance(call.get("function"), Mapping):
        call["function"] = _with_decoded_arguments(call["function"])
    arguments = _decoded(call.get("arguments"))
    if isinstance(arguments, Mapping):
        call["arguments"] = dict(arguments)
    return call


def _decoded(value: Any) -> Any:
    """Return the data in JSON text; any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _no_text(key: str, item: Mapping[str, Any], where: str) -> UserError:
    return UserError(
        f"{where} has no text under '{key}' (its fields: {', '.join(map(str, item))}); add it."
    )
