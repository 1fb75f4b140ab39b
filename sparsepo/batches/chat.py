"""Renders messages with chat templates, in the form that each template expects.

Templates accept different forms. Most take content as text, some as a list of parts; a message
that calls a tool has no content, which some templates require; most take the arguments of a call as
data, some as JSON text. Messages arrive in the first form of each (`data.messages`), and the other
forms are tried if a template needs them.
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
"""The paper's chat format, for tokenizers without a template."""

_REFUSALS: Final = (TemplateError, TypeError, ValueError, KeyError, AttributeError)
"""Exceptions that templates raise for messages that they cannot render."""
_PROBE: Final = "content-or-parts"
_WRITES_ALL: Final = re.compile(r"\bmessages?\b\s*(\|\s*tojson|\.items\(\))")


def ensure_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Set the paper's chat template on a tokenizer without one.

    If the tokenizer puts BOS before every text, the template writes BOS too, because its output is
    tokenized without adding special tokens.

    Args:
        tokenizer: changed in place; the template is then saved with it.

    Returns:
        True if the template was set, False if the tokenizer had one.

    Raises:
        UserError: the tokenizer has no EOS token, which must end each turn.
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
        UserError: the tokenizer has none.
    """
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise UserError("The tokenizer has no EOS token to end responses with; set its eos_token.")
    return eos


def render_chat(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    add_generation_prompt: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Render messages with the tokenizer's chat template, which defaults to the paper's.

    Args:
        messages: the dialogue.
        tokenizer: the tokenizer whose template is used.
        add_generation_prompt: end with the header of an assistant's answer.
        chat_template_kwargs: further arguments of the template, such as `tools`.

    Returns:
        The text; tokenize it without adding special tokens.

    Raises:
        UserError: the template rejects the dialogue (some do not support system messages).
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
        f"The tokenizer's chat template rejects a dialogue of {roles} "
        f"({first_line(refusal).rstrip('.')}); change the dialogue or the template."
    ) from refusal


def assistant_header(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any],
) -> str:
    """Return the text of a dialogue up to the content of the assistant's next answer.

    Args:
        messages: the dialogue before the answer.
        tokenizer: a tokenizer with a chat template.
        chat_template_kwargs: further arguments of the template.
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
    """Return whether the text of a dialogue depends on the tool calls of these messages.

    Some templates do not support tool calls, and some write them only under certain conditions.

    Args:
        messages: messages with tool calls.
        tokenizer: a tokenizer with a chat template.
        chat_template_kwargs: further arguments of the template.
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
    """Return the message fields and further arguments that do not occur in the chat template.

    Args:
        messages: a dialogue.
        chat_template_kwargs: further arguments of the template.
        tokenizer: a tokenizer with a chat template.
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
    """Yield the dialogue in the forms that templates accept, the usual form first."""
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
"""Chat template → whether it accepts content only as a list of parts."""


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
