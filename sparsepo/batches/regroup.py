"""Groups pairs into batches with little padding, without changing the training.

The loss of a step is a mean over all its pairs, so it does not depend on how they are distributed
over micro-batches. Scores do not depend on batches at all. Methods that need a whole step are the
exception: their steps are not split, and their losses in evaluation depend on its batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from sparsepo.batches.pack import Rows, cells, level, longest_first, plan_rows
from sparsepo.types import TokenizedPair


def hold(pairs: list[TokenizedPair]) -> dict[str, list[TokenizedPair]]:
    """Collate a micro-batch without packing it, until all micro-batches of its step are known."""
    return {"pairs": pairs}


def as_drawn(sizes: Sequence[int]) -> Rows:
    """Return consecutive indices, from 0, in groups of these sizes."""
    numbers = iter(range(sum(sizes)))
    return [list(islice(numbers, size)) for size in sizes]


def regroup(
    lengths: Sequence[int], sizes: Sequence[int], tokens_per_row: int | None = None
) -> Rows:
    """Return the pairs of each micro-batch of a step, with the least padding.

    The pairs are grouped as drawn, sorted by length, or levelled to about equal tokens: whichever
    takes the fewest cells; in a tie, the one with the smallest largest micro-batch. Sorted and
    levelled micro-batches have about equal numbers of tokens, so they have more pairs if these are
    short and fewer if they are long.

    Args:
        lengths: tokens of each pair of the step, as drawn.
        sizes: pairs of each micro-batch as drawn, at least one in each.
        tokens_per_row: see `plan_rows`.

    Returns:
        The same number of groups; pairs are in ascending order within a group.
    """
    drawn, count = as_drawn(sizes), len(sizes)
    if count < 2:
        return drawn

    def cost(groups: Rows) -> tuple[int, int]:
        taken = cells_of(groups, lengths, tokens_per_row)
        return sum(taken), max(taken)

    best = min([drawn, split_sorted(lengths, count), level(lengths, count)], key=cost)
    return [sorted(group) for group in best]


def cells_of(groups: Rows, lengths: Sequence[int], tokens_per_row: int | None = None) -> list[int]:
    """Return what each group takes when it is packed: rows × length, with padding.

    Args:
        groups: items of each group.
        lengths: tokens of each item.
        tokens_per_row: see `plan_rows`.
    """
    taken = []
    for group in groups:
        own = [lengths[item] for item in group]
        taken.append(cells(plan_rows(own, tokens_per_row), own))
    return taken


def split_sorted(lengths: Sequence[int], count: int) -> Rows:
    """Return items sorted by length, longest first, cut into groups of about equal tokens.

    The cuts minimise the tokens of the largest group.

    Args:
        lengths: tokens of each item, at least `count` items.
        count: number of groups, none of which is empty.
    """
    order = longest_first(lengths)

    def cut(capacity: int) -> Rows:
        groups: Rows = [[]]
        held = 0
        for place, item in enumerate(order):
            # When only as many items as groups are left, each group gets one.
            short = len(order) - place <= count - len(groups)
            if groups[-1] and (short or held + lengths[item] > capacity):
                groups.append([])
                held = 0
            groups[-1].append(item)
            held += lengths[item]
        return groups

    low, high = max(lengths), sum(lengths)
    while low < high:
        middle = (low + high) // 2
        if len(cut(middle)) > count:
            low = middle + 1
        else:
            high = middle
    return cut(low)


def batches_by_length(lengths: Sequence[int], size: int) -> Rows:
    """Return batches of `size` items of similar length, longest first.

    The longest batch comes first, because running out of memory should happen at once.
    """
    order = longest_first(lengths)
    return [order[start : start + size] for start in range(0, len(order), size)]


class LengthGrouped(LengthGroupedSampler):
    """transformers' sampler that groups similar lengths, seeded only by seed and epoch.

    The original uses the global random state, which a resumed run cannot restore to the beginning
    of an epoch, and which differs between processes.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch for the order of the next iteration."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order: Iterator[int] = super().__iter__()
        return order
