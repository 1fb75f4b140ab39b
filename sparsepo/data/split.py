"""Evaluation pairs: hold out a share of the training pairs, and find the overlap of two sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from sparsepo.errors import UserError
from sparsepo.types import PreferencePair


def hold_out(
    pairs: Sequence[PreferencePair], share: float
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Split pairs into training and evaluation pairs without sharing a prompt between them.

    Prompts are ordered by the hash of their pairs' ids and held out in that order until the share
    is reached. The split depends only on ids and prompts, not on the order of the rows or on a
    seed. A prompt whose pairs would exceed the share is skipped.

    Args:
        pairs: the pairs.
        share: share of the pairs to hold out, between 0 and 1 exclusive; rounded to a whole number
            of pairs, at least one.

    Returns:
        The training pairs and the evaluation pairs, each in the original order.

    Raises:
        UserError: the share is out of range, or no prompt can be held out within it.
    """
    inside = not isinstance(share, bool) and isinstance(share, int | float) and 0 < share < 1
    if not inside:
        raise UserError(
            f"eval_share must be above 0 and below 1, not {share!r}; 0.05 holds out 5 % of the "
            "pairs."
        )
    by_prompt: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        by_prompt.setdefault(_text(pair.prompt), []).append(place)
    hashes = [hashlib.sha256(_encoded(pair.pair_id)).digest() for pair in pairs]
    in_order = sorted(by_prompt.values(), key=lambda group: min(hashes[place] for place in group))
    wanted = min(max(1, round(share * len(pairs))), len(pairs) - 1)
    held: set[int] = set()
    for group in in_order:
        if len(held) + len(group) <= wanted:
            held.update(group)
    if not held:
        raise UserError(
            f"eval_share={share:g} of {len(pairs)} pairs cannot be held out without splitting the "
            "pairs of one prompt; increase it, or give separate evaluation pairs."
        )
    training = [pair for place, pair in enumerate(pairs) if place not in held]
    return training, [pairs[place] for place in sorted(held)]


def shared_pairs(first: Iterable[PreferencePair], second: Iterable[PreferencePair]) -> int:
    """Return how many pairs of the first set are also in the second, regardless of their ids."""
    known = {_content(pair) for pair in second}
    return sum(_content(pair) in known for pair in first)


def _content(pair: PreferencePair) -> tuple[str, str, str]:
    return _text(pair.prompt), _text(pair.chosen), _text(pair.rejected)


def _text(content: object) -> str:
    return json.dumps(content, sort_keys=True)


def _encoded(text: str) -> bytes:
    # An id from a broken row may contain a lone surrogate.
    return text.encode(errors="surrogatepass")
