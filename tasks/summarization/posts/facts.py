"""The kinds of facts of a post, and the sentences in which posts and summaries state them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from tasks.summarization.posts import words


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fact, of which a post has at most one."""

    name: str
    important: bool
    """Whether a good summary states it."""
    fields: Mapping[str, tuple[str, ...]]
    """The parts of the fact and their possible values."""
    told: tuple[str, ...]
    """Sentences of posts, as format strings."""
    summed: tuple[str, ...]
    """Sentences of summaries; none of them is one of `told`."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What a post says of one kind, or what a sentence claims."""

    kind: str
    values: tuple[str, ...]
    """In the order of the kind's fields."""

    def say(self, form: str) -> str:
        """Return a sentence.

        Args:
            form: one of the kind's format strings.
        """
        return form.format(**dict(zip(KINDS[self.kind].fields, self.values, strict=True)))


def _detail(name: str, values: tuple[str, ...], told: str, summed: str) -> Kind:
    return Kind(name, False, {name: values}, tuple(told.split("|")), tuple(summed.split("|")))


_ALL = (
    Kind(
        "event",
        True,
        {"who": words.PEOPLE, "did": words.DEEDS, "what": words.THINGS},
        (
            "So my {who} {did} my {what} last week.",
            "I found out that my {who} {did} my {what}.",
            "You will not believe it but my {who} {did} my {what}.",
            "My {what} was {did} and I know that my {who} did it.",
        ),
        (
            "My {who} {did} my {what}.",
            "My {what} was {did} by my {who}.",
        ),
    ),
    Kind(
        "reason",
        True,
        {"reason": words.REASONS},
        (
            "I think it was all because of {reason}.",
            "It seems that {reason} was behind it.",
            "Everyone tells me that it was just for {reason}.",
        ),
        (
            "It was about {reason}.",
            "The reason was {reason}.",
        ),
    ),
    Kind(
        "feeling",
        True,
        {"feeling": words.FEELINGS},
        (
            "This makes me so {feeling} that I cannot sleep.",
            "I have been {feeling} ever since.",
            "Now I am {feeling} all the time.",
        ),
        (
            "I feel {feeling}.",
            "I am {feeling} now.",
        ),
    ),
    Kind(
        "question",
        True,
        {"action": words.ACTIONS},
        (
            "Do you think that I should {action}?",
            "Would it be wrong to {action}?",
            "Part of me wants to {action} but I do not know.",
        ),
        (
            "Should I {action}?",
            "Is it right to {action}?",
        ),
    ),
    _detail("age", words.AGES, "I am {age} years old.|I just turned {age}.", "I am aged {age}."),
    _detail(
        "city",
        words.CITIES,
        "We all live in {city}.|I moved to {city} last year.",
        "My home is {city}.",
    ),
    _detail(
        "day",
        words.DAYS,
        "All of this was on {day}.|It started on {day}.",
        "It happened on {day}.",
    ),
    _detail("pet", words.PETS, "At home I have a {pet}.|We got a {pet}.", "I own a {pet}."),
    _detail(
        "weather",
        words.WEATHERS,
        "It was a {weather} day.|The weather was {weather}.",
        "It was {weather}.",
    ),
    _detail("job", words.JOBS, "I work as a {job}.|I am a {job} by trade.", "My job is {job}."),
    _detail("food", words.FOODS, "We had {food} for dinner.|I made {food}.", "We ate {food}."),
    _detail(
        "told",
        words.PEOPLE,
        "I told my {told} about it.|My {told} is on my side.",
        "My {told} knows.",
    ),
    _detail(
        "own",
        words.THINGS,
        "I got a new {own} for my birthday.|I also use a {own} every day.",
        "I have a {own}.",
    ),
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
IMPORTANT = tuple(kind.name for kind in _ALL if kind.important)
DETAILS = tuple(kind.name for kind in _ALL if not kind.important)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that states a fact."""

    fact: Fact
    spans: tuple[tuple[int, int], ...]
    """Character span [start, end) of each value, in the order of the kind's fields."""


def draw_fact(kind: Kind, rng: Random) -> Fact:
    """Draw a fact of a kind."""
    return Fact(kind.name, tuple(rng.choice(values) for values in kind.fields.values()))


def other_fact(fact: Fact, rng: Random) -> Fact:
    """Return the fact with another value in one of its fields."""
    fields = list(KINDS[fact.kind].fields.values())
    changed = rng.randrange(len(fields))
    values = list(fact.values)
    values[changed] = rng.choice([value for value in fields[changed] if value != values[changed]])
    return Fact(fact.kind, tuple(values))


def read_sentence(sentence: str) -> Sentence | None:
    """Return the fact that a sentence of a post or a summary states; None if it states none.

    Args:
        sentence: with or without its final full stop; upper and lower case are not told apart.
    """
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(sentence)
        if match is not None:
            fields = KINDS[kind].fields
            values = tuple(
                next(v for v in known if v.lower() == match[name].lower())
                for name, known in fields.items()
            )
            return Sentence(Fact(kind, values), tuple(match.span(name) for name in fields))
    return None


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Return the character span [start, end) of each sentence of a text, without white space."""
    return [match.span() for match in _SENTENCE.finditer(text)]


def _pattern(form: str, fields: Mapping[str, tuple[str, ...]]) -> re.Pattern[str]:
    escaped = re.escape(form.rstrip(".?")) + "[.?!]*"
    for name, values in fields.items():
        group = f"(?P<{name}>{'|'.join(map(re.escape, values))})"
        escaped = escaped.replace(re.escape("{" + name + "}"), group)
    return re.compile(escaped, re.IGNORECASE)


_SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|(?=\s*$))", re.DOTALL)
_PATTERNS = [
    (kind.name, _pattern(form, kind.fields)) for kind in _ALL for form in (*kind.summed, *kind.told)
]
