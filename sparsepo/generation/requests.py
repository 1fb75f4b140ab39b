"""What is asked of a backend, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sparsepo.errors import UserError

Progress = Callable[[int, int], None]
"""Called with (responses so far, total responses)."""

End = Literal["eos", "stop", "length"]
"""Why a response ended: the end-of-sequence token, a stop text, or the longest length."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    max_new_tokens: int
    """Longest response, in tokens."""
    temperature: float = 1.0
    """0 decodes greedily."""
    top_p: float = 1.0
    """Nucleus sampling's share of probability, in (0, 1]."""
    stop: tuple[str, ...] = ()
    """Texts after which a response ends; the one that ended it is kept."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}.")
        # Written so that NaN is refused too.
        if not 0.0 <= self.temperature < float("inf"):
            raise UserError(
                f"The temperature must be 0 or a positive number, not {self.temperature}."
            )
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if "" in self.stop:
            raise UserError("An empty stop text would end every response; leave it out.")


@dataclass(frozen=True)
class Request:
    """One sample to be drawn."""

    prompt: tuple[int, ...]
    """Token ids, which leave room for the response."""
    seed: int
    """64 bits."""


@dataclass(frozen=True)
class Response:
    """One sample."""

    end: End
    ids: tuple[int, ...] = ()
    """Its token ids, including EOS if it was generated; empty where an endpoint answers in text."""
    text: str | None = None
    """Its text, where an endpoint answers in text."""


Batch = list[tuple[int, Response]]
"""Responses that were finished together, each with the index of its request."""


class Backend(Protocol):
    """Draws samples."""

    @property
    def identity(self) -> str:
        """What makes samples of this backend differ from those of another one, for the journal."""
        ...

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Batch]:
        """Yield the responses to all requests, in batches of any order.

        Raises:
            DivergedError: the model's probabilities are not finite.
            UserError: a server cannot be used.
        """
        ...
