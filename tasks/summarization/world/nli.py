"""Statements for a small entailment model, with labels that are known when they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import Any

from tasks.summarization.world import words
from tasks.summarization.world.config import PostWorldConfig
from tasks.summarization.world.facts import KINDS, Fact, draw_fact, other_fact
from tasks.summarization.world.posts import Post, write_post

LABELS = ("entailment", "neutral", "contradiction")
HELD_OUT, TRAIN = "held-out", "train"

_LONGEST_PREMISE = 3
"""Maximum number of sentences."""


def nli_rows(config: PostWorldConfig, rng: Random) -> Iterator[dict[str, Any]]:
    """Yield rows with `premise`, `hypothesis`, `label` (of LABELS) and `split`.

    A premise has one to three sentences of one post, in the wording of posts or of summaries, and a
    hypothesis one sentence. It is entailed if the premise states its fact, contradicted if the
    premise has a fact of its kind with another value, and otherwise neutral. No two rows are equal,
    and the split is by a hash of both texts.

    Args:
        config: sizes and shares.
        rng: source of all randomness.
    """
    wanted = {TRAIN: config.nli_rows - config.nli_held_out, HELD_OUT: config.nli_held_out}
    share = config.nli_held_out / max(1, config.nli_rows)
    seen: set[tuple[str, str]] = set()
    while any(wanted.values()):
        post = write_post(rng, config.details, config.stated_share)
        label = rng.choice(LABELS)
        premise, hypothesis = _texts(post, label, rng)
        split = HELD_OUT if _hash(premise, hypothesis) < share else TRAIN
        if (premise, hypothesis) in seen or not wanted[split]:
            continue
        seen.add((premise, hypothesis))
        wanted[split] -= 1
        yield {"premise": premise, "hypothesis": hypothesis, "label": label, "split": split}


def _texts(post: Post, label: str, rng: Random) -> tuple[str, str]:
    facts = rng.sample(list(post.facts.values()), len(post.facts))
    premise = facts[: rng.choice((1, 1, 1, 2, _LONGEST_PREMISE))]
    about = rng.choice(premise)
    if label == "contradiction":
        about = other_fact(about, rng)
    elif label == "neutral":
        about = _elsewhere(premise, facts, rng)
    told = rng.random() < 0.6
    sentences = [_say(fact, told, rng) for fact in premise]
    if rng.random() < 0.1:
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(words.FILLERS))
    return " ".join(sentences), _say(about, rng.random() < 0.2, rng)


def _elsewhere(premise: list[Fact], facts: list[Fact], rng: Random) -> Fact:
    """Return a fact of a kind that the premise does not have, of the same post or of none."""
    kinds = {fact.kind for fact in premise}
    others = [fact for fact in facts if fact.kind not in kinds]
    if rng.random() < 0.5:
        return rng.choice(others)
    return draw_fact(KINDS[rng.choice([kind for kind in KINDS if kind not in kinds])], rng)


def _say(fact: Fact, told: bool, rng: Random) -> str:
    kind = KINDS[fact.kind]
    return fact.say(rng.choice(kind.told if told else kind.summed))


def _hash(premise: str, hypothesis: str) -> float:
    digest = hashlib.sha256(f"{premise}\n{hypothesis}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
