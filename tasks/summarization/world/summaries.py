"""Writes summaries of a post: good ones, and ones that omit, confuse, contradict, invent, digress.

A careless author has habits: which facts are left out, mistaken or added depends on the post, so
that a model which learns from such summaries makes the same mistakes, as its most likely words.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tasks.summarization.posts.facts import DETAILS, IMPORTANT, KINDS, Fact, draw_fact, other_fact
from tasks.summarization.posts.post import Post

GOOD = "good"
OMITS, CONFUSES, CONTRADICTS, INVENTS, DIGRESSES = (
    "omits",
    "confuses",
    "contradicts",
    "invents",
    "digresses",
)

_RARELY = 0.2
"""Relative frequency of values that no sentence of the post suggests."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary with what is wrong with it."""

    text: str
    """Without the leading space that TL;DR's responses have."""
    defects: tuple[str, ...]
    """omits: an important fact is missing; confuses: the person or thing of the event is that of a
    detail; contradicts: a value is wrong; invents: the post does not have the fact; digresses: a
    detail is stated. Empty for a good summary."""

    @property
    def label(self) -> str:
        """The defects in one word."""
        return "+".join(dict.fromkeys(self.defects)) or GOOD


def write_summary(post: Post, rng: Random, carelessness: float = 0.0) -> Summary:
    """Write one summary.

    A good one states every important fact once, in the order event, reason, feeling, question.

    Args:
        post: what is summarized.
        rng: source of all randomness.
        carelessness: probability of each defect where the post allows it.
    """
    facts: list[Fact] = []
    defects: list[str] = []

    def careless(defect: str, share: float = 1.0) -> bool:
        happens = rng.random() < carelessness * share
        if happens:
            defects.append(defect)
        return happens

    for kind in IMPORTANT:
        fact = post.facts.get(kind)
        if fact is None:
            if careless(INVENTS):
                facts.append(draw_fact(KINDS[kind], rng))
        elif kind == "event":
            facts.append(_event(post, fact, careless(CONFUSES), defects))
        elif not careless(OMITS):
            facts.append(fact)
    if careless(CONTRADICTS, _RARELY):
        wrong = rng.randrange(len(facts))
        facts[wrong] = other_fact(facts[wrong], rng)
    if careless(INVENTS, _RARELY):
        absent = [kind for kind in DETAILS if kind not in post.facts]
        facts.insert(rng.randint(1, len(facts)), draw_fact(KINDS[rng.choice(absent)], rng))
    stated = [fact for kind, fact in post.facts.items() if not KINDS[kind].important]
    if stated and careless(DIGRESSES):
        facts.insert(rng.randint(1, len(facts)), rng.choice(stated))
    text = " ".join(fact.say(rng.choice(KINDS[fact.kind].summed)) for fact in facts)
    return Summary(text, tuple(defects))


def _event(post: Post, event: Fact, confused: bool, defects: list[str]) -> Fact:
    """Return the event, confused with the person and the thing of details if there are any."""
    if not confused:
        return event
    who, did, what = event.values
    told, own = post.facts.get("told"), post.facts.get("own")
    if told is None and own is None:
        defects.remove(CONFUSES)
    return Fact(
        event.kind,
        (told.values[0] if told else who, did, own.values[0] if own else what),
    )
