"""Tells posts of training pairs, which say nothing of a model if it summarizes them again."""

from __future__ import annotations

from collections.abc import Iterable

from sparsepo.types import PreferencePair
from tasks.summarization.schemas import document_of

IN_TRAINING = "post in the training pairs"


def same_post(prompt: str) -> str:
    """Return what is equal for prompts of one post: without title and white space."""
    return " ".join(document_of(prompt).split())


def posts_of(pairs: Iterable[PreferencePair]) -> set[str]:
    """Return the posts of pairs in chat form, for `same_post`."""
    return {same_post(prompt_text(pair)) for pair in pairs}


def prompt_text(pair: PreferencePair) -> str:
    """Return the prompt of a pair in chat form, which is one user turn."""
    assert not isinstance(pair.prompt, str)
    return str(pair.prompt[-1]["content"])
