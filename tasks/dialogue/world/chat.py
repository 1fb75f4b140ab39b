"""Two renderings of one dialogue: the chat template of the models, and HH's plain text."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.models.special_tokens import EOS

HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "

Turn = tuple[str, str]
"""(role, content); role is "user" or "assistant"."""


def render_chat(turns: Sequence[Turn], generation_prompt: bool = False) -> str:
    """Render as `sparsepo.batches.tokenize.CHAT_TEMPLATE` does (a test compares the two)."""
    text = "".join(f"<|{role}|>\n{content}{EOS}\n" for role, content in turns)
    return text + ("<|assistant|>\n" if generation_prompt else "")


def render_hh(turns: Sequence[Turn]) -> str:
    """Render as a dialogue of Anthropic/hh-rlhf."""
    return "".join((HUMAN if role == "user" else ASSISTANT) + content for role, content in turns)
