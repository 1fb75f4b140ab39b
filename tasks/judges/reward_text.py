"""What a reward model reads of a prompt and a response."""

from __future__ import annotations

from typing import Any

from sparsepo.types import Message
from tasks.judges.base import transcript

Ids = tuple[int, ...]


def encode_response(
    tokenizer: Any, prompt: str | list[Message], response: str | list[Message]
) -> Ids:
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


def without_beginning(first: Ids, second: Ids, longest: int | None) -> tuple[Ids, Ids]:
    """Return two responses to a prompt without the tokens at its beginning that do not fit.

    As in training of policies, a prompt is cut from the left; of both texts the same is cut off.

    Args:
        first: prompt and response.
        second: the same prompt and another response.
        longest: most tokens of a text; None for any number.

    Returns:
        Both, unchanged if they fit, or if not even the responses do.
    """
    if longest is None:
        return first, second
    excess = max(len(first), len(second)) - longest
    if excess <= 0 or first[:excess] != second[:excess]:
        return first, second
    return first[excess:], second[excess:]
