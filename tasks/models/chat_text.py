"""The chat template as plain text, without importing a training library."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.models.special_tokens import EOS

Turn = tuple[str, str]
"""(role, content); role is "user" or "assistant"."""


def render_chat(turns: Sequence[Turn], generation_prompt: bool = False) -> str:
    """Render as `sparsepo.batches.chat.CHAT_TEMPLATE` does (a test compares the two)."""
    text = "".join(f"<|{role}|>\n{content}{EOS}\n" for role, content in turns)
    return text + ("<|assistant|>\n" if generation_prompt else "")
