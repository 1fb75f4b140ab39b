"""The words of an answer that decide its preference, by the rules of the embedded world.

What the judge counts (`judge.py`), it counts by whole sentences. Here a sentence that states
something about a topic is decided by the words that make it true, untrue or off topic; any other
one that counts is decisive as a whole. What the rules do not know decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sparsepo.types import Message
from tasks.dialogue.judge import is_judged
from tasks.dialogue.world.talk import (
    ASKING,
    ASKING_HARM,
    CLOSINGS,
    COMPLIANCE,
    EMPTY,
    HARMS,
    OPENINGS,
    REFUSALS,
    RUDE,
    TOPICS,
    Topic,
    indefinite,
)

Verdict = Literal[
    "true", "repeats", "untrue", "off topic", "empty", "polite", "rude", "refuses", "complies"
]
GOOD: tuple[Verdict, ...] = ("true", "polite", "refuses")
"""Verdicts that speak for an answer; the others speak against it."""

_TOPIC_OF = {form.format(a=indefinite(topic)): topic for form in ASKING for topic in TOPICS}
_HARM_OF = {form.format(harm=harm): harm for form in ASKING_HARM for harm in HARMS}
_FACTS = (
    re.compile(r"An? (?P<name>\w+) is an? (?P<quality>\w+) (?P<kind>\w+)\."),
    re.compile(r"An? (?P<name>\w+) can (?P<ability>[\w ]+)\."),
    re.compile(r"You find an? (?P<name>\w+) (?P<place>[\w ]+)\."),
)
_CLAIM = re.compile(r"(An? \w+ (is|can)|You find) ")
"""What the judge takes for a statement, whether it is one of the world's or not."""
_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s|$)|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DecisiveSpan:
    """Words of an answer that decide its preference."""

    start: int
    end: int
    """Characters [start, end)."""
    verdict: Verdict
    """true, untrue: states a fact, or what is none, about the topic; repeats: says a sentence
    again; off topic: speaks of something else; empty, polite, rude: small talk of this kind;
    refuses, complies: declines a harmful request, or helps with it."""


def decisive_spans(prompt: Sequence[Message], response: str) -> list[DecisiveSpan]:
    """Return the words that decide the preference of an answer, in order.

    Args:
        prompt: chat messages up to the answer; the last is the request.
        response: the answer's text.

    Raises:
        ValueError: the request is not one of the world's (see `is_known`).
    """
    request = prompt[-1]["content"] if prompt else ""
    if request in _HARM_OF:
        steps = tuple(step.format(harm=_HARM_OF[request]) for step in COMPLIANCE)
        found = [*_phrases(response, REFUSALS, "refuses"), *_phrases(response, steps, "complies")]
    elif request in _TOPIC_OF:
        found = list(_about(_TOPIC_OF[request], response))
    else:
        raise ValueError(f"the rules do not know the request {request!r}")
    found += _phrases(response, RUDE, "rude")
    return sorted(found, key=lambda span: (span.start, span.end))


def is_known(prompt: Sequence[Message]) -> bool:
    """Return whether the decisive words are known, because the request is one of the world's."""
    return is_judged(prompt)


def label_tokens(offsets: Iterable[tuple[int, int]], spans: Sequence[DecisiveSpan]) -> list[bool]:
    """Return for each token whether it is part of a decisive word.

    Args:
        offsets: character spans of the tokens in the text; empty ones are never decisive. In
            byte-level vocabularies a leading space belongs to the token, not the word.
        spans: the result of `decisive_spans`.
    """
    return [
        end > start and any(start < span.end and end > span.start for span in spans)
        for start, end in offsets
    ]


def _about(topic: Topic, response: str) -> Iterator[DecisiveSpan]:
    """Yield what decides an answer to an innocent request, but for rude words."""
    sentences = [match.span() for match in _SENTENCE.finditer(response)]
    said: set[str] = set()
    for place, (start, end) in enumerate(sentences):
        sentence = response[start:end]
        if sentence in said:
            yield DecisiveSpan(start, end, "repeats")
        elif sentence in EMPTY:
            yield DecisiveSpan(start, end, "empty")
        elif (place == 0 and sentence in OPENINGS) or (
            place == len(sentences) - 1 and sentence in CLOSINGS
        ):
            yield DecisiveSpan(start, end, "polite")
        else:
            yield from _statement(topic, sentence, start)
        said.add(sentence)


def _statement(topic: Topic, sentence: str, start: int) -> Iterator[DecisiveSpan]:
    """Yield the words that make a statement true, untrue or off topic."""
    match = next((found for form in _FACTS if (found := form.fullmatch(sentence))), None)
    if match is None:
        if _CLAIM.match(sentence):
            yield DecisiveSpan(start, start + len(sentence), "untrue")
        return
    groups = match.groupdict()
    names = list(groups)
    verdict: Verdict = "untrue"
    if groups["name"] != topic.name:
        names, verdict = ["name"], "off topic"
    elif sentence in topic.facts():
        verdict = "true"
    else:
        # A wrong article alone leaves no wrong value; the judge still rejects the sentence.
        names = [name for name in names if groups[name] != getattr(topic, name)] or names
    for name in names:
        yield DecisiveSpan(start + match.start(name), start + match.end(name), verdict)


def _phrases(response: str, phrases: Iterable[str], verdict: Verdict) -> Iterator[DecisiveSpan]:
    """Yield every occurrence of one of several phrases, as the judge looks for them."""
    for phrase in phrases:
        for match in re.finditer(re.escape(phrase), response):
            yield DecisiveSpan(*match.span(), verdict)
