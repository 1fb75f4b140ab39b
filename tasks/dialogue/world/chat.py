"""Two renderings of one dialogue: the chat template of the models, and HH's plain text."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.models.chat_text import Turn, render_chat

__all__ = ["Turn", "render_chat", "render_hh"]

HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "


def render_hh(turns: Sequence[Turn]) -> str:
    """Render as a dialogue of Anthropic/hh-rlhf."""
    return "".join((HUMAN if role == "user" else ASSISTANT) + content for role, content in turns)
