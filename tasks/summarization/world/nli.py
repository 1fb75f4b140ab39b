"""Statements for a small entailment model, with labels that are known when they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import Any

from tasks.summarization.posts import words
from tasks.summarization.posts.facts import KINDS, Fact, draw_fact, other_fact
from tasks.summarization.posts.post import Post, write_post
from tasks.summarization.world.config import PostWorldConfig

LABELS = ("entailment", "neutral", "contradiction")
HELD_OUT, TRAIN = "held_out", "train"


def nli_rows(config: PostWorldConfig, rng: Random) -> Iterator[dict[str, Any]]:
    """Yield rows with `premise`, `hypothesis`, `label` (of LABELS) and `split`.

    A premise is one sentence of a post or a summary, a hypothesis one sentence of a summary or,
    rarely, of a post. It is entailed if the premise states its fact, contradicted if the premise
    has a fact of its kind with another value, and otherwise neutral: of another kind, of the same
    post or of none. The labels are equally frequent, so that statements may occur repeatedly, but
    never in both splits: these are by a hash of both texts.

    Args:
        config: sizes and shares.
        rng: source of all randomness.
    """
    wanted = {TRAIN: config.nli_rows - config.nli_held_out, HELD_OUT: config.nli_held_out}
    share = config.nli_held_out / max(1, config.nli_rows)
    while any(wanted.values()):
        post = write_post(rng, config.details, config.stated_share)
        label = rng.choice(LABELS)
        premise, hypothesis = _texts(post, label, rng)
        split = HELD_OUT if _hash(premise, hypothesis) < share else TRAIN
        if not wanted[split]:
            continue
        wanted[split] -= 1
        yield {"premise": premise, "hypothesis": hypothesis, "label": label, "split": split}


def _texts(post: Post, label: str, rng: Random) -> tuple[str, str]:
    premise, other = rng.sample(list(post.facts.values()), 2)
    about = premise
    if label == "contradiction":
        about = other_fact(premise, rng)
    elif label == "neutral":
        about = other if rng.random() < 0.5 else _elsewhere(premise, rng)
        if rng.random() < 0.1:
            return rng.choice(words.FILLERS), _say(about, False, rng)
    return _say(premise, rng.random() < 0.6, rng), _say(about, rng.random() < 0.15, rng)


def _elsewhere(premise: Fact, rng: Random) -> Fact:
    """Return a fact of another kind, of no post in particular."""
    return draw_fact(KINDS[rng.choice([kind for kind in KINDS if kind != premise.kind])], rng)


def _say(fact: Fact, told: bool, rng: Random) -> str:
    kind = KINDS[fact.kind]
    return fact.say(rng.choice(kind.told if told else kind.summed))


def _hash(premise: str, hypothesis: str) -> float:
    digest = hashlib.sha256(f"{premise}\n{hypothesis}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
