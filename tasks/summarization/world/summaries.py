"""Writes summaries of a post: good ones, and ones that omit, contradict, invent or digress."""

from __future__ import annotations

from random import Random

from tasks.summarization.posts.facts import (
    DETAILS,
    IMPORTANT,
    KINDS,
    Fact,
    draw_fact,
    other_fact,
)
from tasks.summarization.posts.post import Post

GOOD = "good"
DEFECTS = ("omits", "contradicts", "invents", "digresses")
"""omits: one or two important facts are missing; contradicts: one fact is wrong; invents: a fact
is stated that the post does not have; digresses: a detail stands in place of an important fact."""


def write_summary(post: Post, rng: Random, defects: tuple[str, ...] = ()) -> str:
    """Write one summary.

    Args:
        post: what is summarized.
        rng: source of all randomness.
        defects: of `DEFECTS`; none for a good summary, which states every important fact once, in
            the order event, reason, feeling, question.

    Returns:
        The text, without the leading space that TL;DR's responses have.
    """
    facts = [post.facts[kind] for kind in IMPORTANT if kind in post.facts]
    for defect in defects:
        facts = _DEFECT[defect](post, facts, rng)
    return " ".join(fact.say(rng.choice(KINDS[fact.kind].summed)) for fact in facts)


def draw_defects(rng: Random, good_share: float) -> tuple[str, ...]:
    """Draw the defects of a summary: none, mostly one, sometimes two.

    Args:
        rng: source of all randomness.
        good_share: probability of none.
    """
    if rng.random() < good_share:
        return ()
    return tuple(rng.sample(DEFECTS, 2 if rng.random() < 0.25 else 1))


def _omit(post: Post, facts: list[Fact], rng: Random) -> list[Fact]:
    kept = list(facts)
    for _ in range(rng.randint(1, 2)):
        if len(kept) > 1:
            kept.pop(rng.randrange(len(kept)))
    return kept


def _contradict(post: Post, facts: list[Fact], rng: Random) -> list[Fact]:
    wrong = rng.randrange(len(facts))
    return [other_fact(fact, rng) if i == wrong else fact for i, fact in enumerate(facts)]


def _invent(post: Post, facts: list[Fact], rng: Random) -> list[Fact]:
    absent = [kind for kind in (*IMPORTANT, *DETAILS) if kind not in post.facts]
    invented = draw_fact(KINDS[rng.choice(absent)], rng)
    place = rng.randint(1, len(facts))
    return [*facts[:place], invented, *facts[place:]]


def _digress(post: Post, facts: list[Fact], rng: Random) -> list[Fact]:
    stated = [fact for kind, fact in post.facts.items() if not KINDS[kind].important]
    if not stated:
        return _omit(post, facts, rng)
    place = rng.randrange(len(facts))
    return [rng.choice(stated) if i == place else fact for i, fact in enumerate(facts)]


_DEFECT = {
    "omits": _omit,
    "contradicts": _contradict,
    "invents": _invent,
    "digresses": _digress,
}
