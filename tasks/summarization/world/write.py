"""Writes the world of posts: corpus, summaries for fine-tuning, preference pairs, test prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from sparsepo.data.jsonl import write_jsonl
from tasks.models.chat_text import render_chat
from tasks.models.special_tokens import EOS
from tasks.summarization.posts.post import Post, write_post
from tasks.summarization.truth import LOSE, TIE, compare
from tasks.summarization.world.config import PostWorldConfig
from tasks.summarization.world.nli import nli_rows
from tasks.summarization.world.summaries import write_summary

HELD_OUT_SHARE = 0.25
"""Share of all posts, by their important facts, that are reserved for tests."""

_SHORT = (0, 2)


def write_world(config: PostWorldConfig, directory: Path) -> None:
    """Write every file of the world into `directory`; equal configurations give equal bytes.

    Args:
        config: sizes, shares and the seed.
        directory: created if missing. It receives `corpus.jsonl` (`text`, and `answers`, the
            character span of the summary and the EOS after it), `sft.jsonl` and `prompts.jsonl`
            (`prompt`, `subreddit`, `title`, `post`, `summary`, as in TL;DR), `pairs_train.jsonl`
            and `pairs_test.jsonl` (`prompt`, `chosen`, `rejected`, and what is wrong with each as
            `chosen_policy` and `rejected_policy`), and `nli.jsonl` (`premise`, `hypothesis`,
            `label`, `split`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    # One generator per file, so that changing the size of one file does not affect the others.
    write_jsonl(corpus_rows(config, _rng(config, "corpus")), directory / "corpus.jsonl")
    sft = post_rows(config, _rng(config, "sft"), config.sft_rows, config.sft_carelessness)
    write_jsonl(sft, directory / "sft.jsonl")
    prompts = post_rows(config, _rng(config, "prompts"), config.test_prompts, 0.0, held_out=True)
    write_jsonl(prompts, directory / "prompts.jsonl")
    for split, count in (("train", config.train_pairs), ("test", config.test_pairs)):
        rows = pair_rows(config, _rng(config, split), count, held_out=split == "test")
        write_jsonl(rows, directory / f"pairs_{split}.jsonl")
    write_jsonl(nli_rows(config, _rng(config, "nli")), directory / "nli.jsonl")


def corpus_rows(config: PostWorldConfig, rng: Random) -> Iterator[dict[str, Any]]:
    """Yield the base model's documents: posts with good and bad summaries, in the chat format."""
    for _ in range(config.documents):
        short = rng.random() < config.short_share
        post = _post(config, rng, held_out=False, details=_SHORT if short else config.details)
        summary = write_summary(post, rng, config.carelessness).text
        text = render_chat([("user", post.prompt), ("assistant", summary)])
        start = text.rindex(summary)
        yield {"text": text, "answers": [[start, start + len(summary + EOS)]]}


def post_rows(
    config: PostWorldConfig, rng: Random, count: int, carelessness: float, held_out: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield different posts with a summary, in the schema of TL;DR's prompts.

    Args:
        config: sizes and shares.
        rng: source of all randomness.
        count: number of rows.
        carelessness: probability of each defect of a summary.
        held_out: on which side of the held-out split.
    """
    seen: set[str] = set()
    while len(seen) < count:
        post = _post(config, rng, held_out)
        if post.prompt in seen:
            continue
        seen.add(post.prompt)
        yield {
            "prompt": post.prompt,
            "subreddit": post.subreddit,
            "title": post.title,
            "post": post.text,
            "summary": write_summary(post, rng, carelessness).text,
        }


def pair_rows(
    config: PostWorldConfig, rng: Random, count: int, held_out: bool
) -> Iterator[dict[str, Any]]:
    """Yield preference pairs in TL;DR's schema from one side of the held-out split.

    The chosen summary is truly preferred, but for the share `label_noise`.
    """
    made = 0
    while made < count:
        post = _post(config, rng, held_out)
        first = write_summary(post, rng, config.chosen_carelessness)
        second = write_summary(post, rng, config.rejected_carelessness)
        order = compare(post, first.text, second.text)
        if order == TIE:
            continue
        if (order == LOSE) != (rng.random() < config.label_noise):
            first, second = second, first
        made += 1
        yield {
            "prompt": post.prompt,
            # TL;DR's responses begin with the space after "TL;DR:".
            "chosen": " " + first.text,
            "rejected": " " + second.text,
            "chosen_policy": first.label,
            "rejected_policy": second.label,
        }


def is_held_out(post: Post) -> bool:
    """Return on which side of the split a post is, by a hash of its important facts."""
    digest = hashlib.sha256(post.key.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def _post(
    config: PostWorldConfig, rng: Random, held_out: bool, details: tuple[int, int] | None = None
) -> Post:
    while True:
        post = write_post(rng, details or config.details, config.stated_share)
        if is_held_out(post) == held_out:
            return post


def _rng(config: PostWorldConfig, name: str) -> Random:
    return Random(f"{config.seed}/posts/{name}")
