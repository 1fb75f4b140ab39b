"""The truth about a summary of the world's posts: what it covers, what it makes up, what decides.

Sentences of the world's posts and summaries are understood in any order and number. A sentence that
is none of them, or that breaks off, is unreadable, and supports nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sparsepo.types import Message
from tasks.summarization.posts.facts import KINDS, Fact, read_sentence, split_sentences
from tasks.summarization.posts.post import Post, read_post

WIN, TIE, LOSE = 1.0, 0.5, 0.0

Prompt = str | Post | Sequence[Message]
"""A prompt in TL;DR's format, as text or as one chat message, or the post itself."""

Verdict = Literal["covers", "repeats", "digresses", "contradicts", "invents", "unreadable"]
"""covers: states an important fact of the post for the first time; repeats: states a fact again;
digresses: states a detail of the post; contradicts: the post has a fact of this kind with another
value; invents: it has none; unreadable: states no fact that the world knows."""

SUPPORTED: tuple[Verdict, ...] = ("covers", "repeats", "digresses")


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of a summary."""

    span: tuple[int, int]
    """Character span [start, end) of the sentence."""
    verdict: Verdict
    fact: Fact | None
    """None if unreadable."""
    deciding: tuple[tuple[int, int], ...]
    """Character spans of the words that make the verdict: the values of the fact; of a
    contradiction, those that are wrong; all of an unreadable sentence."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about one summary; all three values are in [0, 1], higher is better."""

    coverage: float
    """Share of the post's important facts that are stated."""
    faithfulness: float
    """Share of the sentences that the post supports; 0 for an empty summary."""
    focus: float
    """Share of the sentences that state an important fact for the first time."""
    claims: tuple[Claim, ...]

    @property
    def preference(self) -> float:
        """(2·coverage + 2·faithfulness + focus) / 5, which orders summaries."""
        return (2 * self.coverage + 2 * self.faithfulness + self.focus) / 5


@dataclass(frozen=True, slots=True)
class DecidingSpan:
    """Words of a summary that decide its preference."""

    start: int
    end: int
    verdict: Verdict
    effect: float
    """Preference of the summary minus that of the summary without the sentence; negative for
    words that should not be there."""


def is_known(prompt: Prompt) -> bool:
    """Return whether the truth about summaries is known, because the post is one of the world's."""
    return _known(prompt) is not None


def assess(prompt: Prompt, summary: str) -> Truth:
    """Assess a summary of a post of the world.

    Args:
        prompt: see Prompt.
        summary: any text.

    Raises:
        ValueError: the post is not one of the world's (see `is_known`).
    """
    post = _post_of(prompt)
    claims: list[Claim] = []
    for start, end in split_sentences(summary):
        claims.append(_claim(post, summary, (start, end), [c.fact for c in claims]))
    return _truth(post, claims)


def preference(prompt: Prompt, summary: str) -> float:
    """Return `Truth.preference` of a summary."""
    return assess(prompt, summary).preference


def compare(prompt: Prompt, first: str, second: str) -> float:
    """Compare two summaries of a post: 1 if the first is preferred, ½ for a tie, else 0."""
    difference = preference(prompt, first) - preference(prompt, second)
    return TIE if abs(difference) < 1e-9 else WIN if difference > 0 else LOSE


def deciding_spans(prompt: Prompt, summary: str) -> list[DecidingSpan]:
    """Return the words that decide the preference of a summary, in order.

    effect(sentence) = preference(summary) − preference(summary without the sentence), where the
    verdicts of the other sentences stay as they are.

    Args:
        prompt: see Prompt.
        summary: any text.

    Raises:
        ValueError: the post is not one of the world's.
    """
    post = _post_of(prompt)
    whole = assess(post, summary)
    found: list[DecidingSpan] = []
    for claim in whole.claims:
        rest = _truth(post, [other for other in whole.claims if other is not claim])
        effect = whole.preference - rest.preference
        found += [DecidingSpan(a, b, claim.verdict, effect) for a, b in claim.deciding]
    return found


def _post_of(prompt: Prompt) -> Post:
    post = _known(prompt)
    if post is None:
        raise ValueError("the post is not one of the world's")
    return post


def _known(prompt: Prompt) -> Post | None:
    if isinstance(prompt, Post):
        return prompt
    if not isinstance(prompt, str):
        prompt = str(prompt[-1]["content"]) if prompt else ""
    return read_post(prompt)


def _claim(post: Post, summary: str, span: tuple[int, int], before: Sequence[Fact | None]) -> Claim:
    start, end = span
    sentence = read_sentence(summary[start:end])
    if sentence is None:
        return Claim(span, "unreadable", None, (span,))
    spans = tuple((start + a, start + b) for a, b in sentence.spans)
    claimed, stated = sentence.fact, post.facts.get(sentence.fact.kind)
    if stated is None:
        return Claim(span, "invents", claimed, spans)
    if claimed != stated:
        wrong = zip(spans, claimed.values, stated.values, strict=True)
        return Claim(span, "contradicts", claimed, tuple(own for own, a, b in wrong if a != b))
    if claimed in before:
        return Claim(span, "repeats", claimed, spans)
    verdict: Verdict = "covers" if KINDS[claimed.kind].important else "digresses"
    return Claim(span, verdict, claimed, spans)


def _truth(post: Post, claims: Sequence[Claim]) -> Truth:
    important = sum(KINDS[kind].important for kind in post.facts)
    covered = sum(claim.verdict == "covers" for claim in claims)
    supported = sum(claim.verdict in SUPPORTED for claim in claims)
    count = max(1, len(claims))
    return Truth(covered / max(1, important), supported / count, covered / count, tuple(claims))
