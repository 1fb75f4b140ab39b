"""Cuts a micro-batch into the parts that a CPU computes one after the other.

What the backward pass needs grows with the tokens that are computed at once, and a few hundred
tokens of a large model keep a CPU's cores busy. The parts' gradients add up to the micro-batch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sparsepo.batches.pack import Rows
from sparsepo.batches.regroup import cells_of, regroup

MOST_STATES: Final = 2**23
"""Tokens × layers × width of a part, for which a Llama with adapters keeps half a gigabyte. It
depends on no machine, so that results do not; a small model's micro-batch stays whole."""


def tokens_at_once(config: Any) -> int | None:
    """Return the tokens of a part, ⌊MOST_STATES / (layers × width)⌋.

    Args:
        config: the model's configuration.

    Returns:
        At least 1; None if the configuration does not say how many layers there are, or how wide
        they are.
    """
    text = config.get_text_config()
    layers, width = (getattr(text, name, None) for name in ("num_hidden_layers", "hidden_size"))
    if not isinstance(layers, int) or not isinstance(width, int):
        return None
    return max(1, MOST_STATES // max(1, layers * width))


def in_parts(lengths: Sequence[int], most: int, tokens_per_row: int | None = None) -> Rows:
    """Return the pairs of each part: the fewest parts of at most `most` tokens, padding included.

    Args:
        lengths: tokens of each pair of a micro-batch, at least one.
        most: tokens of a part; one pair may have more.
        tokens_per_row: see `plan_rows`.

    Returns:
        Between one and len(lengths) groups; pairs are in ascending order within a group.
    """
    count = min(len(lengths), -(-sum(lengths) // most))
    while True:
        # Sizes only say how many groups there are to be, and which one is that of the drawn order.
        size, larger = divmod(len(lengths), count)
        sizes = [size + 1] * larger + [size] * (count - larger)
        groups = regroup(lengths, sizes, tokens_per_row)
        if count == len(lengths) or max(cells_of(groups, lengths, tokens_per_row)) <= most:
            return groups
        count += 1
