"""Chooses tokens from final states, without the logits of a batch ever existing as a whole.

A token is drawn from the same tree over the vocabulary as in `sparsepo.generation.choice`, with the
same random numbers at the same nodes: samples are the same up to rounding, and depend on their own
seeds alone. A node of the tree's upper part stands for words that lie in as many runs of
consecutive words as the lower part has leaves:

    vocabulary 10, level sizes 10 → 5 → 3; node 1 of the 3 stands for words 1, 4, 6 and 9,
    the runs begin at 0, 3, 5 and 8

The first pass computes the logits of one run after another and adds their exponentials, relative to
a running maximum, into the nodes. A node is drawn from these sums, and only the logits of its own
words are computed again for the rest of the way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsepo.fused import block_elements_on
from sparsepo.generation.choice import descend, fold, require_finite
from sparsepo.generation.head import Projection

_NARROWEST = 256
"""Smallest number of words per block, below which a matrix product is inefficient."""


def block_width(vocabulary: int, rows: int, device: torch.device) -> int:
    """Return the largest number of words in a block.

    Args:
        vocabulary: number of words.
        rows: of the batch.
        device: where the logits are computed.
    """
    return min(vocabulary, max(_NARROWEST, block_elements_on(device) // max(1, rows)))


def level_sizes(vocabulary: int, width: int) -> list[int]:
    """Return the sizes of the tree's levels, from the words to the first of at most `width`."""
    sizes = [vocabulary]
    while sizes[-1] > width:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def runs_of(sizes: list[int]) -> list[tuple[int, int]]:
    """Return the runs (first word, end) that the nodes of the last level stand for.

    Node j stands for word first + j of every run that reaches so far; in the order of the runs,
    these words are the leaves of the tree's lower part. A run can be empty.

    Args:
        sizes: of the levels, as `level_sizes` returns them.
    """
    runs = [(0, sizes[-1])]
    for size, larger in reversed(list(zip(sizes[1:], sizes, strict=False))):
        runs += [(first + size, min(end + size, larger)) for first, end in runs]
    return runs


def drawn_in_blocks(
    hidden: Tensor,
    projection: Projection,
    uniforms: Tensor,
    temperature: float,
    width: int | None = None,
) -> Tensor:
    """Draw a token of each row from softmax((W h + b) / temperature).

    Args:
        hidden: final states, (rows, d).
        projection: W and b.
        uniforms: random numbers in [0, 1), (rows, levels(vocabulary)), float64.
        temperature: above 0.
        width: largest number of words per block, at least 2; None fits the machine's cache. It
            changes the result only by rounding.

    Returns:
        (rows,), int64.

    Raises:
        DivergedError: a row has no finite probabilities.
    """
    vocabulary = len(projection.weight)
    if width is None:
        width = block_width(vocabulary, len(hidden), hidden.device)
    runs = runs_of(level_sizes(vocabulary, width))
    nodes = runs[0][1]
    sums = torch.zeros(len(hidden), nodes, device=hidden.device)
    lowest = torch.finfo(torch.float32).min
    maximum = torch.full((len(hidden), 1), lowest, device=hidden.device)
    for first, end in runs:
        if first >= end:  # of a word without a right neighbour
            continue
        logits = projection.logits(hidden, slice(first, end))
        if temperature != 1.0:
            logits /= temperature
        larger = torch.maximum(maximum, logits.amax(dim=-1, keepdim=True))
        if bool((larger > maximum).any()):
            sums *= (maximum - larger).exp_()
        maximum = larger
        sums[:, : end - first] += logits.sub_(maximum).exp_()
    levels = fold(sums)
    # A row whose logits are all −∞ has a sum of 0.
    require_finite(levels[-1].log())
    upper = len(levels) - 1
    node = descend(levels, uniforms[:, :upper])
    starts = torch.tensor([first for first, _ in runs], device=hidden.device)
    ends = torch.tensor([end for _, end in runs], device=hidden.device)
    words = starts + node
    inside = words < ends
    logits = projection.chosen(hidden, words.clamp_(max=vocabulary - 1)) / temperature
    logits = torch.where(inside, logits, -torch.inf)
    leaves = fold((logits - logits.amax(dim=-1, keepdim=True)).exp_())
    place = descend(leaves, uniforms[:, upper:])
    return words.gather(1, place)[:, 0]


def greedy_in_blocks(hidden: Tensor, projection: Projection, width: int | None = None) -> Tensor:
    """Return the most probable token of each row, the first of equal ones.

    Args:
        hidden: final states, (rows, d).
        projection: W and b.
        width: number of words per block; None fits the machine's cache.

    Returns:
        (rows,), int64.

    Raises:
        DivergedError: a row has NaN or +∞.
    """
    vocabulary = len(projection.weight)
    if width is None:
        width = block_width(vocabulary, len(hidden), hidden.device)
    best = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    chosen = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    for first in range(0, vocabulary, width):
        logits = projection.logits(hidden, slice(first, first + width))
        largest = logits.amax(dim=-1)
        require_finite(largest.clamp(min=torch.finfo(torch.float32).min))
        better = largest > best
        if bool(better.any()):
            chosen = torch.where(better, first + logits.argmax(dim=-1), chosen)
            best = torch.where(better, largest, best)
    require_finite(best)
    return chosen
