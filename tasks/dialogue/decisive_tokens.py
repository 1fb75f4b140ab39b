"""The tokens of an answer that decide its preference, by the rules of the embedded world.

The world writes good and bad answers to a request by known rules (`world/talk.py`), so the odds
that an answer is a good one are known after each of its tokens:

    odds(y_≤t) = P(a good answer begins with y_≤t) / P(a bad answer begins with y_≤t).

A token decides if it at least doubles or halves them. Whatever follows from what was said before
decides nothing: "up." after "Shut", or a third fact after a first sentence that only good answers
have. The end of the sequence is a token like the others: some answers would go on.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from random import Random

from sparsepo.types import Message
from tasks.dialogue.world.talk import (
    ASKING,
    ASKING_HARM,
    HARMS,
    TOPICS,
    Request,
    Topic,
    bad_answer,
    good_answer,
    indefinite,
)

DRAWS = 2000
"""Good and bad answers to each topic and harm from which the odds are counted; fixed seeds."""
SETTLED = math.log(99.0)
"""Log-odds beyond which a preference is settled: nothing that follows decides."""
DECISIVE = math.log(2.0)
"""Smallest change of the log-odds by a decisive token."""

_LAST = "\U0010ffff"
"""Sorts after every text of the world."""
_REQUESTS: dict[str, tuple[Topic | None, str]] = {
    **{form.format(a=indefinite(topic)): (topic, "") for form in ASKING for topic in TOPICS},
    **{form.format(harm=harm): (None, harm) for form in ASKING_HARM for harm in HARMS},
}


def is_known(prompt: Sequence[Message]) -> bool:
    """Return whether decisive tokens are known, because the request is one of the world's.

    Args:
        prompt: chat messages up to the answer; the last is the request.
    """
    return bool(prompt) and prompt[-1]["content"] in _REQUESTS


def log_odds(prompt: Sequence[Message], text: str, *, ended: bool = False) -> float | None:
    """Return the log-odds that an answer is good, given its beginning, within ±SETTLED.

    Args:
        prompt: chat messages up to the answer.
        text: what was said so far.
        ended: the answer is the text, rather than one that begins with it.

    Returns:
        The log-odds, with as many good as bad answers beforehand; None if no drawn answer begins
        like this.

    Raises:
        ValueError: the request is not one of the world's (see `is_known`).
    """
    request = prompt[-1]["content"] if prompt else ""
    if request not in _REQUESTS:
        raise ValueError(f"the rules do not know the request {request!r}")
    good, bad = (_count(answers, text, ended) for answers in _answers(*_REQUESTS[request]))
    if good == bad:
        return 0.0 if good else None
    if not good or not bad:
        return SETTLED if good else -SETTLED
    return min(SETTLED, max(-SETTLED, math.log(good / bad)))


def token_effects(prompt: Sequence[Message], answer: str, ends: Iterable[int]) -> list[float]:
    """Return how much each token changes the log-odds that the answer is good.

    Args:
        prompt: chat messages up to the answer.
        answer: the answer's text.
        ends: where each token ends in the text, in characters; beyond it for the end of sequence.

    Returns:
        The changes, positive for tokens that speak for the answer. Where the text is none that the
        world says, the odds stay what they are.

    Raises:
        ValueError: as `log_odds` does.
    """
    before = 0.0
    effects = []
    for end in ends:
        found = log_odds(prompt, answer[:end], ended=end > len(answer))
        after = before if found is None else found
        effects.append(after - before)
        before = after
    return effects


def decisive_tokens(prompt: Sequence[Message], answer: str, ends: Iterable[int]) -> list[bool]:
    """Return which tokens of an answer decide its preference; see `token_effects`."""
    return [abs(effect) >= DECISIVE for effect in token_effects(prompt, answer, ends)]


@cache
def _answers(topic: Topic | None, harm: str) -> tuple[list[str], list[str]]:
    """Return drawn good and bad answers to a topic or a harm, each sorted."""
    request = Request((), topic, harm)
    rng = Random(f"decisive/{topic.name if topic else harm}")
    good, bad = (
        sorted(make(request, rng) for _ in range(DRAWS)) for make in (good_answer, bad_answer)
    )
    return good, bad


def _count(answers: list[str], text: str, ended: bool) -> int:
    """Return how many of the sorted answers begin with a text, or are it."""
    last = bisect_right(answers, text) if ended else bisect_left(answers, text + _LAST)
    return last - bisect_left(answers, text)
