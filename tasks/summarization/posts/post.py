"""Writes posts: important facts and details in varied wording, and sentences that say nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from tasks.summarization.posts import words
from tasks.summarization.posts.facts import (
    DETAILS,
    IMPORTANT,
    KINDS,
    Fact,
    draw_fact,
    read_sentence,
    split_sentences,
)


@dataclass(frozen=True, slots=True)
class Post:
    """One post with what it says."""

    subreddit: str
    title: str
    text: str
    facts: Mapping[str, Fact]
    """Kind → fact, in the order of `KINDS`."""

    @property
    def prompt(self) -> str:
        """The prompt in TL;DR's format."""
        return (
            f"SUBREDDIT: r/{self.subreddit}\n\nTITLE: {self.title}\n\nPOST: {self.text}\n\nTL;DR:"
        )

    @property
    def key(self) -> str:
        """What tells posts apart: their important facts."""
        return repr([fact for kind, fact in self.facts.items() if KINDS[kind].important])


def write_post(rng: Random, details: tuple[int, int], stated_share: float) -> Post:
    """Write one post.

    The event comes first among the important facts and the question last; details and fillers
    stand anywhere.

    Args:
        rng: source of all randomness.
        details: smallest and largest number of details.
        stated_share: probability that there is a reason, and a feeling.
    """
    stated = [k for k in IMPORTANT if k in ("event", "question") or rng.random() < stated_share]
    minor = rng.sample(DETAILS, rng.randint(*details))
    facts = {kind: draw_fact(KINDS[kind], rng) for kind in (*stated, *minor)}
    _tell_apart(facts, rng)
    main = [facts[kind].say(rng.choice(KINDS[kind].told)) for kind in stated]
    others = [facts[kind].say(rng.choice(KINDS[kind].told)) for kind in minor]
    others += rng.sample(words.FILLERS, rng.randint(0, 1))
    for sentence in others:
        main.insert(rng.randint(0, len(main)), sentence)
    ordered = {kind: facts[kind] for kind in KINDS if kind in facts}
    return Post(rng.choice(words.SUBREDDITS), rng.choice(words.TITLES), " ".join(main), ordered)


def read_post(prompt: str) -> Post | None:
    """Read a post of the world from its prompt; None for any other text.

    Args:
        prompt: as `Post.prompt`.
    """
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        return None
    found: dict[str, Fact] = {}
    for start, end in split_sentences(match["text"]):
        sentence = match["text"][start:end]
        read = read_sentence(sentence)
        if read is None and sentence not in words.FILLERS:
            return None
        if read is not None:
            found[read.fact.kind] = read.fact
    facts = {kind: found[kind] for kind in KINDS if kind in found}
    return Post(match["subreddit"], match["title"], match["text"], facts) if facts else None


def _tell_apart(facts: dict[str, Fact], rng: Random) -> None:
    """Let the details name another person and another thing than the event."""
    who, _, what = facts["event"].values
    for kind, taken in (("told", who), ("own", what)):
        while kind in facts and facts[kind].values[0] == taken:
            facts[kind] = draw_fact(KINDS[kind], rng)


_PROMPT = re.compile(
    r"SUBREDDIT: r/(?P<subreddit>\S+)\n\nTITLE: (?P<title>[^\n]*)\n\nPOST: (?P<text>.*)\n\nTL;DR:",
    re.DOTALL,
)
