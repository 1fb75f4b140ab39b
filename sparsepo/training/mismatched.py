"""Responses with the prompts of other pairs, by which KTO measures the distance of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparsepo.types import TokenizedPair


def mismatched(pairs: Sequence[TokenizedPair], max_length: int) -> list[TokenizedPair]:
    """Return each pair's responses with the prompt of the pair after it; the last has the first's.

    Args:
        pairs: at least two.
        max_length: longest prompt and response together, in tokens; a longer prompt loses its
            beginning.
    """
    found = []
    for place, pair in enumerate(pairs):
        prompt = pairs[(place + 1) % len(pairs)].prompt_ids
        room = max_length - max(len(pair.chosen_ids), len(pair.rejected_ids))
        found.append(replace(pair, prompt_ids=prompt[-max(room, 1) :]))
    return found
