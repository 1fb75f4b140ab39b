"""Chat templates: from messages to text, in the form that each template expects.

Templates differ in what they take. Content is text for most of them and a list of parts for some;
a message that calls a tool has no content, which some cannot do without; the arguments of a call
are data for most and JSON text for some. Messages come in the first form of each (`data.messages`),
and the others are tried where a template wants them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from sparsepo.errors import UserError, first_line
from sparsepo.types import Message

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""The paper's chat format, for tokenizers that have no template of their own."""

_REFUSALS: Final = (TemplateError, TypeError, ValueError, KeyError, AttributeError)
"""What a template raises for messages that it cannot render."""
_PROBE: Final = "content-or-parts"
_WRITES_ALL: Final = re.compile(r"\bmessages?\b\s*(\|\s*tojson|\.items\(\))")


def ensure_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give a tokenizer without a chat template the paper's one.

    A tokenizer that puts BOS before every text gets a template that writes it, since a template's
    output is tokenized without added special tokens.

    Args:
        tokenizer: changed in place; the template is then saved with it.

    Returns:
        True where the template was set, False where the tokenizer had one.

    Raises:
        UserError: the tokenizer has no EOS token, without which no turn ends.
    """
    if tokenizer.chat_template is not None:
        return False
    eos_id(tokenizer)
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and bos in tokenizer("")["input_ids"]
    tokenizer.chat_template = ("{{ bos_token }}" if adds_bos else "") + CHAT_TEMPLATE
    return True


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of a tokenizer's EOS token.

    Raises:
        UserError: it has none.
    """
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise UserError(
            "The tokenizer has no EOS token, so no response could end; set its eos_token."
        )
    return eos


def render_chat(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    add_generation_prompt: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Render messages with the tokenizer's chat template, set to the paper's where it has none.

    Args:
        messages: the dialogue.
        tokenizer: the tokenizer whose template is used.
        add_generation_prompt: end with what precedes an assistant's answer.
        chat_template_kwargs: what else the template gets, such as `tools`.

    Returns:
        The text; tokenize it without adding special tokens.

    Raises:
        UserError: the template refuses the dialogue (some know no system message).
    """
    ensure_chat_template(tokenizer)
    extra = dict(chat_template_kwargs or {})
    as_parts = _wants_parts(tokenizer, extra.get("tools"))
    refusal: Exception | None = None
    for form in _forms(messages):
        try:
            return _render(
                _parts(form) if as_parts else form, tokenizer, add_generation_prompt, extra
            )
        except _REFUSALS as error:
            refusal = error
    assert refusal is not None
    roles = ", ".join(str(message["role"]) for message in messages)
    raise UserError(
        f"The tokenizer's chat template refuses a dialogue of {roles}: "
        f"{first_line(refusal).rstrip('.')}."
    ) from refusal


def assistant_header(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any],
) -> str:
    """Return a dialogue up to where the content of the assistant's next answer begins.

    Args:
        messages: the dialogue before the answer.
        tokenizer: has a chat template.
        chat_template_kwargs: what else the template gets.
    """
    answers = [[*messages, {"role": "assistant", "content": text}] for text in "01"]
    first, second = (
        render_chat(answer, tokenizer, chat_template_kwargs=chat_template_kwargs)
        for answer in answers
    )
    length = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    return first[:length]


def writes_tool_calls(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any],
    before: Sequence[Message] = (),
) -> bool:
    """Say whether the tool calls of messages leave a trace in the text of a dialogue.

    Some templates do not know tool calls, and some write them under conditions of their own.

    Args:
        messages: messages with tool calls.
        tokenizer: has a chat template.
        chat_template_kwargs: what else the template gets.
        before: the dialogue before these messages.
    """
    uncalled = [
        {"content": "", **{key: item for key, item in message.items() if key != "tool_calls"}}
        for message in messages
    ]
    with_calls, without = (
        render_chat([*before, *form], tokenizer, chat_template_kwargs=chat_template_kwargs)
        for form in (messages, uncalled)
    )
    return with_calls != without


def unused_fields(
    messages: Sequence[Message],
    chat_template_kwargs: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> list[str]:
    """Return the fields of messages, and further arguments, that the chat template never names.

    Args:
        messages: a dialogue.
        chat_template_kwargs: what else the template gets.
        tokenizer: has a chat template.
    """
    fields = {key for message in messages for key in message} - {"role", "content"}
    fields |= chat_template_kwargs.keys()
    if not fields:
        return []
    template = _source(tokenizer, chat_template_kwargs.get("tools"))
    if _WRITES_ALL.search(template):
        return []
    return sorted(field for field in fields if not _names(template, field))


@lru_cache(maxsize=256)
def _names(template: str, field: str) -> bool:
    return re.search(rf"\b{re.escape(field)}\b", template) is not None


def _render(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    add_generation_prompt: bool,
    extra: dict[str, Any],
) -> str:
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt, **extra
    )
    return str(text)


def _forms(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield the dialogue in the forms that templates take, the usual one first."""
    yield messages
    with_content = [{"content": "", **message} for message in messages]
    if with_content != list(messages):
        yield with_content
    encoded = [_with_encoded_arguments(message) for message in messages]
    if encoded != list(messages):
        yield encoded
        yield [{"content": "", **message} for message in encoded]


def _with_encoded_arguments(message: Message) -> Message:
    calls = message.get("tool_calls")
    return message if calls is None else {**message, "tool_calls": [_encoded(c) for c in calls]}


def _encoded(call: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(call)
    if isinstance(changed.get("function"), Mapping):
        changed["function"] = _encoded(changed["function"])
    if isinstance(changed.get("arguments"), Mapping):
        changed["arguments"] = json.dumps(changed["arguments"], ensure_ascii=False)
    return changed


def _parts(messages: Sequence[Message]) -> list[Message]:
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def _source(tokenizer: PreTrainedTokenizerBase, tools: Any) -> str:
    return str(tokenizer.get_chat_template(tools=tools))


_PARTS: dict[str, bool] = {}
"""Chat template → whether it takes content as a list of parts only."""


def _wants_parts(tokenizer: PreTrainedTokenizerBase, tools: Any) -> bool:
    template = _source(tokenizer, tools)
    if template not in _PARTS:
        probe: list[Message] = [{"role": "user", "content": _PROBE}]
        _PARTS[template] = not _shows_probe(probe, tokenizer) and _shows_probe(
            _parts(probe), tokenizer
        )
    return _PARTS[template]


def _shows_probe(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        return _PROBE in _render(messages, tokenizer, False, {})
    except _REFUSALS:
        return False
