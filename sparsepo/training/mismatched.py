"""Responses with the prompts of other pairs, by which KTO measures the distance of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparsepo.types import TokenizedPair


def mismatched(pairs: Sequence[TokenizedPair], max_length: int) -> list[TokenizedPair]:
    """Return each pair's responses with the prompt of the pair after it; the last has the first's.

    Pairs with the same prompt are passed over, because unpaired rows often share it. If all have
    the same prompt, nothing is returned.

    Args:
        pairs: of one step.
        max_length: longest prompt and response together, in tokens; a longer prompt loses its
            beginning.
    """
    found = []
    for place, pair in enumerate(pairs):
        after = (*pairs[place + 1 :], *pairs[:place])
        prompt = next((p.prompt_ids for p in after if p.prompt_ids != pair.prompt_ids), None)
        if prompt is None:
            return []
        room = max_length - max(len(pair.chosen_ids), len(pair.rejected_ids))
        found.append(replace(pair, prompt_ids=prompt[-max(room, 1) :]))
    return found
