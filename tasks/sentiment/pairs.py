"""Preference pairs as in the paper: prefixes of reviews, two completions each, and a reward.

Prompts are the first 5 to 8 tokens of reviews. The initial model completes each prompt twice, and
the completion with the higher ground-truth reward is the chosen response. Of more completions, the
best and the worst are the pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING

from sparsepo.data.pairs import EMPTY_RESPONSE, IDENTICAL_RESPONSES
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TIE = "tie: the completions have the same reward"
NO_REWARD = "a completion without a finite reward"

PREFIX_TOKENS = (5, 8)
"""[paper] Smallest and largest number of tokens of a prompt."""


@dataclass(frozen=True, slots=True)
class RankedPairs:
    """Pairs made from samples, and the numbers of skipped prompts."""

    pairs: list[PreferencePair]
    rewards: list[tuple[float, float]]
    """(chosen, rejected) reward of each pair."""
    prompts: int
    """Prompts given."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → prompts without a pair."""


def review_prefixes(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    seed: int,
    tokens: tuple[int, int] = PREFIX_TOKENS,
    exclude: Sequence[str] = (),
) -> list[str]:
    """Make prompts from the beginnings of reviews.

    The number of tokens is drawn for each review. Reviews that are too short, prefixes that end
    within a character, and repeated prefixes are skipped.

    Args:
        texts: reviews.
        tokenizer: its tokens are counted.
        count: number of prompts.
        seed: seed for the order of reviews and the lengths.
        tokens: smallest and largest number of tokens of a prompt.
        exclude: prompts to exclude, such as those of the other split.

    Returns:
        At most `count` different prompts.

    Raises:
        UserError: the lengths are invalid, or no prompt can be made.
    """
    low, high = tokens
    if not 0 < low <= high:
        raise UserError(
            f"A prompt cannot have {low} to {high} tokens; give increasing numbers of at least 1."
        )
    rng = Random(f"{seed}/prefixes")
    order = list(range(len(texts)))
    rng.shuffle(order)
    taken = set(exclude)
    prompts: list[str] = []
    for index in order:
        if len(prompts) == count:
            break
        length = rng.randint(low, high)
        ids = tokenizer(texts[index], add_special_tokens=False, verbose=False)["input_ids"]
        prompt = str(tokenizer.decode(ids[:length]))
        if len(ids) <= length or prompt in taken or not texts[index].startswith(prompt):
            continue
        taken.add(prompt)
        prompts.append(prompt)
    if not prompts and count:
        raise UserError(
            f"No review of {len(texts)} gives a new prompt of {low} to {high} tokens; "
            "give longer or more reviews."
        )
    return prompts


def rank_samples(
    prompts: Sequence[str],
    completions: Sequence[Sequence[str]],
    rewards: Sequence[Sequence[float | None]],
    name: str = "sample",
) -> RankedPairs:
    """Make one pair per prompt from its completions with the highest and the lowest reward.

    Args:
        prompts: the prompts.
        completions: two or more completions of each prompt.
        rewards: their rewards; None if a completion has none.
        name: prefix of the pairs' ids, which are `<name>:<prompt's index>`.

    Raises:
        UserError: no prompt has a pair.
    """
    skipped: Counter[str] = Counter()
    pairs: list[PreferencePair] = []
    kept: list[tuple[float, float]] = []
    for index, (prompt, texts, scores) in enumerate(
        zip(prompts, completions, rewards, strict=True)
    ):
        found = [(text, score) for text, score in zip(texts, scores, strict=True) if text.strip()]
        scored = [(text, score) for text, score in found if score is not None]
        if len(found) < 2:
            skipped[EMPTY_RESPONSE] += 1
        elif len({text for text, _ in found}) < 2:
            skipped[IDENTICAL_RESPONSES] += 1
        elif len(scored) < 2:
            skipped[NO_REWARD] += 1
        elif len({score for _, score in scored}) < 2:
            skipped[TIE] += 1
        else:
            chosen, best = max(scored, key=itemgetter(1))
            rejected, worst = min(scored, key=itemgetter(1))
            pairs.append(PreferencePair(f"{name}:{index}", prompt, chosen, rejected))
            kept.append((best, worst))
    if not pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise UserError(f"No pair comes of {len(prompts)} prompts: {reasons or 'there are none'}.")
    return RankedPairs(pairs, kept, len(prompts), dict(skipped))
