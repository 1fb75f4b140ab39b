"""Chat templates get every field that they can use, in the form that they expect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sparsepo.batches.chat import CHAT_TEMPLATE, render_chat, unused_fields, writes_tool_calls
from sparsepo.batches.tokenize import encode_prompts, tokenize_pairs
from sparsepo.data import pairs_of_rows
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tests.sparsepo.batches.test_tokenize import byte_level
from tests.sparsepo.data.test_messages import BAD, CALL, GOOD, ROW, TOOL, TOOLS, USER

HEADER = "<|{{ m.role }}|>"
TOOLS_FIRST = "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
CALLS = (
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}</call>{% endfor %}"
)
PROMPTED = "{% if add_generation_prompt %}<|assistant|>{% endif %}"


def template(message: str, first: str = "", last: str = PROMPTED) -> str:
    return f"{first}{{% for m in messages %}}{message}{{{{ eos_token }}}}{{% endfor %}}{last}"


WHOLE = template(
    HEADER + "{% if m.tool_call_id %}[{{ m.tool_call_id }} {{ m.name }}]{% endif %}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content or '' }}" + CALLS,
    first=TOOLS_FIRST,
)
"""Uses every field, as the templates of current models do."""
PLAIN = template(HEADER + "{{ m.content }}")
NEEDS_CONTENT = template("{{ '<|' + m.role + '|>' + m.content }}" + CALLS)
TEXT_ARGUMENTS = template(
    HEADER + "{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ '<call>' + c.function.arguments }}{% endfor %}"
)
PARTS_ONLY = template(
    HEADER + "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
)
EITHER = template(
    HEADER + "{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m.content %}({{ p.text }}){% endfor %}{% endif %}"
)
OPENS_THOUGHT = template(
    HEADER + "{{ m.content or '' }}" + CALLS,
    last="{% if add_generation_prompt %}<|assistant|><think>{% endif %}",
)


def tokenizer_with(chat_template: Any) -> Any:
    tokenizer = byte_level()
    tokenizer.chat_template = chat_template
    return tokenizer


def tokenized(row: dict[str, Any], chat_template: Any) -> tuple[str, str, str, Any]:
    """The texts of prompt, chosen and rejected as they are trained on, and the report."""
    tokenizer = tokenizer_with(chat_template)
    result = tokenize_pairs(pairs_of_rows([row], "rows").pairs, tokenizer, 4096)
    (pair,) = result.pairs
    ids = (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
    prompt, chosen, rejected = (tokenizer.decode(part) for part in ids)
    return prompt, chosen, rejected, result.report


# --- every field reaches the template -----------------------------------------------------------


def test_tools_calls_ids_names_and_reasoning_are_in_what_is_trained_on() -> None:
    prompt, chosen, rejected, report = tokenized(ROW, WHOLE)
    assert prompt == (
        f"<tools>{json.dumps(TOOLS)}</tools><|user|>How is Oslo?</s>"
        '<|assistant|><call>weather{"city": "Oslo"}</call></s>'
        "<|tool|>[c1 weather]rain</s><|assistant|>"
    )
    assert chosen == "<think>The tool says so.</think>It rains.</s>"
    assert rejected == "Sun.</s>"
    assert report.unused_fields == {}


def test_training_and_generation_see_the_same_prompt_and_it_is_transformers_own() -> None:
    tokenizer = tokenizer_with(WHOLE)
    row = {**ROW, "tools": json.dumps(TOOLS)}
    (pair,) = pairs_of_rows([row], "rows").pairs
    (trained,) = tokenize_pairs([pair], tokenizer, 4096).pairs
    (generated,) = encode_prompts(
        [pair.prompt], tokenizer, chat_template_kwargs=[pair.chat_template_kwargs]
    )
    own = tokenizer.apply_chat_template(ROW["prompt"], tools=TOOLS, add_generation_prompt=True)
    assert trained.prompt_ids == generated == list(own["input_ids"])


def test_documents_and_arguments_of_the_row_reach_the_template() -> None:
    thinking = template(
        HEADER + "{{ m.content }}",
        first="{% for d in documents or [] %}[{{ d.text }}]{% endfor %}{{ style }}",
    )
    row = {"prompt": [USER], "chosen": "Sun.", "rejected": "No.", "documents": [{"text": "fact"}]}
    prompt, *_ = tokenized({**row, "chat_template_kwargs": {"style": "short:"}}, thinking)
    assert prompt == "[fact]short:<|user|>How is Oslo?</s><|assistant|>"


def test_one_of_several_templates_is_chosen_as_transformers_does() -> None:
    several = {"default": PLAIN, "tool_use": WHOLE}
    assert tokenized(ROW, several)[0].startswith("<tools>")
    assert not tokenized({**ROW, "tools": None}, several)[0].startswith("<tools>")


def test_fields_that_the_template_does_not_use_are_counted() -> None:
    *_, report = tokenized(ROW, PLAIN)
    names = ("name", "reasoning_content", "tool_call_id", "tool_calls", "tools")
    assert report.unused_fields == dict.fromkeys(names, 1)
    assert str(report).endswith(
        "the chat template does not use name (1 pairs), reasoning_content (1 pairs), "
        "tool_call_id (1 pairs), tool_calls (1 pairs), tools (1 pairs)"
    )
    assert set(report.counts()) == {
        "pairs", "kept", "skipped", "truncated_prompts", "truncated_responses",
        "boundary_mismatches", "template_mismatches",
    }  # fmt: skip


def test_calls_that_a_template_names_but_does_not_write_are_counted() -> None:
    """DeepSeek's templates write calls only beside a null content, which none can have."""
    conditional = template(
        HEADER + "{{ m.content or '' }}{% if m.content is none %}" + CALLS + "{% endif %}"
    )
    *_, report = tokenized(
        {"prompt": [USER, CALL, TOOL], "chosen": "Sun.", "rejected": "x"}, conditional
    )
    assert report.unused_fields["tool_calls"] == 1


def test_a_template_that_writes_whole_messages_uses_all_of_them() -> None:
    tokenizer = tokenizer_with("{{ messages | tojson }}")
    assert unused_fields([CALL, TOOL], {"tools": TOOLS}, tokenizer) == []
    assert unused_fields([USER], {}, tokenizer_with(PLAIN)) == []


# --- responses that are calls -------------------------------------------------------------------

OTHER_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}],
}
CALLING = {"prompt": [USER], "chosen": [{**CALL, "content": None}], "rejected": [OTHER_CALL]}


def test_a_response_may_be_a_call() -> None:
    _, chosen, rejected, _ = tokenized(CALLING, WHOLE)
    assert chosen == '<call>weather{"city": "Oslo"}</call></s>'
    assert rejected == '<call>add{"a": 1}</call></s>'


@pytest.mark.parametrize("chat_template", [PLAIN, None], ids=["model's", "paper's"])
@pytest.mark.parametrize("content", [None, "Let me see."])
def test_a_call_that_the_template_does_not_write_is_refused(
    chat_template: str | None, content: str | None
) -> None:
    row = {**CALLING, "chosen": [{**CALL, "content": content}]}
    with pytest.raises(UserError, match=r"Pair rows:train:0: a response calls a tool, but the"):
        tokenized(row, chat_template)


def test_a_call_after_a_generation_prompt_that_opens_a_thought() -> None:
    prompt, chosen, rejected, report = tokenized(CALLING, OPENS_THOUGHT)
    assert prompt.endswith("<|assistant|><think>")
    assert chosen == '<call>weather{"city": "Oslo"}</call></s>'
    assert rejected == '<call>add{"a": 1}</call></s>'
    assert report.template_mismatches == 2


def test_a_response_whose_beginning_cannot_be_told_is_refused() -> None:
    thoughtless = template(
        HEADER + "<t>{{ m.reasoning_content or '' }}</t>{{ m.content or '' }}",
        last="{% if add_generation_prompt %}<|assistant|>!{% endif %}",
    )
    row = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}
    with pytest.raises(UserError, match=r"Pair rows:train:0: .* generation prompt is not what"):
        tokenized(row, thoughtless)


# --- forms that templates expect ----------------------------------------------------------------


def test_a_template_that_cannot_do_without_content_gets_an_empty_one() -> None:
    prompt, chosen, _, _ = tokenized({**ROW, "chosen": [CALL]}, NEEDS_CONTENT)
    assert '<|assistant|><call>weather{"city": "Oslo"}</call></s>' in prompt
    assert chosen == '<call>weather{"city": "Oslo"}</call></s>'


def test_a_template_that_joins_arguments_to_text_gets_them_as_text() -> None:
    prompt, *_ = tokenized(ROW, TEXT_ARGUMENTS)
    assert '<|assistant|><call>{"city": "Oslo"}</s>' in prompt


@pytest.mark.parametrize(
    ("chat_template", "expected"),
    [(PLAIN, "How is Oslo?"), (EITHER, "How is Oslo?"), (PARTS_ONLY, "How is Oslo?")],
    ids=["text", "either", "parts only"],
)
@pytest.mark.parametrize("parts", [False, True], ids=["given text", "given parts"])
def test_text_and_parts_are_the_same_to_every_template(
    chat_template: str, expected: str, parts: bool
) -> None:
    content = [{"type": "text", "text": "How is "}, {"type": "text", "text": "Oslo?"}]
    user = {"role": "user", "content": content if parts else "How is Oslo?"}
    row = {"prompt": [user], "chosen": [BAD], "rejected": [{"role": "assistant", "content": "x"}]}
    prompt, chosen, _, _ = tokenized(row, chat_template)
    assert prompt == f"<|user|>{expected}</s><|assistant|>"
    assert chosen == "Sun.</s>"


def test_a_template_that_fails_in_python_is_one_sentence() -> None:
    broken = tokenizer_with("{{ messages[0].content + 1 }}")
    with pytest.raises(UserError, match=r"rejects a dialogue of user \(can only concatenate str"):
        render_chat([USER], broken)
    with pytest.raises(UserError, match=r"rejects a dialogue of  \(.*empty conversation"):
        render_chat([], tokenizer_with(PLAIN))


def test_the_papers_template_renders_a_call_as_an_empty_turn_and_says_so() -> None:
    tokenizer = byte_level()
    pair = PreferencePair("p", [USER, CALL, TOOL], [BAD], [{"role": "assistant", "content": "x"}])
    result = tokenize_pairs([pair], tokenizer, 512)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert "<|assistant|>\n</s>\n<|tool|>" in tokenizer.decode(result.pairs[0].prompt_ids)
    assert result.report.unused_fields == {"name": 1, "tool_call_id": 1, "tool_calls": 1}
    assert not writes_tool_calls([CALL], tokenizer, {})
