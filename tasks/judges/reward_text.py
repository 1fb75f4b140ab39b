"""What a reward model reads of a prompt and a response."""

from __future__ import annotations

from typing import Any

from sparsepo.types import Message
from tasks.judges.base import transcript


def encode_response(
    tokenizer: Any, prompt: str | list[Message], response: str | list[Message]
) -> tuple[int, ...]:
    """Return the token ids of a response after its prompt.

    Args:
        tokenizer: with its chat template if it has one; otherwise messages become a transcript.
        prompt: a text, or messages up to the response.
        response: its text, or its message.
    """
    text = response if isinstance(response, str) else str(response[-1]["content"])
    if isinstance(prompt, str):
        return tuple(tokenizer(prompt + text)["input_ids"])
    if tokenizer.chat_template is None:
        return tuple(tokenizer(f"{transcript(prompt)}\n\nAssistant: {text}")["input_ids"])
    turns = [*prompt, {"role": "assistant", "content": text}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    return tuple(tokenizer(whole, add_special_tokens=False)["input_ids"])
