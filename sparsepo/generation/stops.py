"""Recognises the end of a response: end-of-sequence tokens, and stop texts across tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsepo.generation.requests import End

_MARGIN = 4
"""Tokens that are decoded beside those that can hold a stop text: the first token may be the end of
a character, and some tokenizers remove the space before the first word."""


class Ends:
    """Says whether a response that has just grown by a token is complete."""

    def __init__(self, tokenizer: Any, eos: frozenset[int], stop: Sequence[str]) -> None:
        """Prepare for one sampling run.

        Args:
            tokenizer: the model's tokenizer.
            eos: ids of the tokens that end a response.
            stop: texts that end a response.
        """
        self._tokenizer = tokenizer
        self._eos = eos
        self._stop = tuple(stop)
        # A token that is not special has at least one byte.
        self._tail = max((len(text.encode()) for text in stop), default=0) + _MARGIN

    def of(self, ids: list[int]) -> End | None:
        """Return why a response ends with its last token, or None if it goes on."""
        if ids[-1] in self._eos:
            return "eos"
        if self._stop:
            tail = self._tokenizer.decode(ids[-self._tail :], skip_special_tokens=True)
            if any(text in tail for text in self._stop):
                return "stop"
        return None


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a response: the tokenizer's, and the model's own.

    Chat models often end their turns with another token than documents.

    Args:
        model: a model, or None to use the tokenizer alone.
        tokenizer: the model's tokenizer.
    """
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    return frozenset(int(i) for i in [tokenizer.eos_token_id, *listed] if i is not None)
