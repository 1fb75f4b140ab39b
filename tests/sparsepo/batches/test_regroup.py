"""Pairs are spread over a step's micro-batches for little padding, and none is lost or doubled."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sparsepo.batches.pack import pack_pairs
from sparsepo.batches.regroup import (
    LengthGrouped,
    as_drawn,
    batches_by_length,
    hold,
    regroup,
    split_sorted,
)
from sparsepo.types import TokenizedPair
from tests.small_models import token_pairs

lengths_and_count = st.lists(st.integers(2, 60), min_size=1, max_size=30).flatmap(
    lambda lengths: st.tuples(st.just(lengths), st.integers(1, len(lengths)))
)
budgets = st.one_of(st.none(), st.integers(1, 200))


def taken(groups: Sequence[Sequence[int]], lengths: list[int], budget: int | None) -> int:
    """Cells of the micro-batches as they are packed in the end."""
    total = 0
    for group in groups:
        pairs = [TokenizedPair("", [1] * (lengths[item] - 1), [2], []) for item in group]
        total += pack_pairs(pairs, tokens_per_row=budget, rejected=False).input_ids.numel()
    return total


@given(lengths_and_count, budgets, st.randoms(use_true_random=False))
def test_regrouping_keeps_pairs_and_count_and_saves_cells(
    drawn: tuple[list[int], int], budget: int | None, random: Any
) -> None:
    lengths, count = drawn
    cuts = sorted(random.sample(range(1, len(lengths)), count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, len(lengths)], strict=True)]
    ours = regroup(lengths, sizes, budget)
    assert len(ours) == count
    assert all(group == sorted(group) for group in ours)
    assert all(ours)
    assert sorted(chain.from_iterable(ours)) == list(range(len(lengths)))
    assert taken(ours, lengths, budget) <= taken(as_drawn(sizes), lengths, budget)
    assert regroup(lengths, sizes, budget) == ours


def test_regrouping_sorts_what_was_drawn_mixed() -> None:
    lengths, sizes = [90, 60, 90, 60], [2, 2]
    assert as_drawn(sizes) == [[0, 1], [2, 3]]
    ours = regroup(lengths, sizes)
    assert ours == [[0, 2], [1, 3]]
    assert (taken(as_drawn(sizes), lengths, None), taken(ours, lengths, None)) == (360, 300)


def test_at_equal_cells_the_largest_micro_batch_is_as_small_as_can_be() -> None:
    assert [len(group) for group in regroup([60] * 6, [4, 2])] == [3, 3]


def test_one_micro_batch_stays_as_it_is() -> None:
    assert regroup([3, 9, 5], [3]) == [[0, 1, 2]]
    assert regroup([], []) == []


@given(lengths_and_count)
def test_split_sorted_is_the_best_cut(drawn: tuple[list[int], int]) -> None:
    lengths, count = drawn
    groups = split_sorted(lengths, count)
    order = list(chain.from_iterable(groups))
    assert len(groups) == count
    assert all(groups)
    assert sorted(order) == list(range(len(lengths)))
    ordered = [lengths[item] for item in order]
    assert ordered == sorted(lengths, reverse=True)

    # The smallest possible largest sum of `count` runs, by dynamic programming.
    best = [float("inf")] * (len(ordered) + 1)
    best[0] = 0
    for _ in range(count):
        best = [
            min(
                (max(best[start], sum(ordered[start:end])) for start in range(end)),
                default=float("inf"),
            )
            for end in range(len(ordered) + 1)
        ]
    assert max(sum(lengths[item] for item in group) for group in groups) == best[-1]


@given(st.lists(st.integers(2, 60), max_size=30), st.integers(1, 7))
def test_batches_by_length(lengths: list[int], size: int) -> None:
    batches = batches_by_length(lengths, size)
    order = list(chain.from_iterable(batches))
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[item] for item in order] == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


def test_a_micro_batch_travels_between_processes() -> None:
    held = hold(token_pairs(2))
    assert pickle.loads(pickle.dumps(held)) == held
    assert pickle.loads(pickle.dumps(hold)) is hold


def test_orders_of_similar_lengths_are_those_of_seed_and_epoch() -> None:
    lengths = [(7 * i) % 50 + 1 for i in range(60)]

    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthGrouped(4, lengths, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert sorted(order(1, 0)) == list(range(60))
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)

    def spans(numbers: Sequence[int]) -> list[int]:
        batches = [[lengths[i] for i in numbers[at : at + 4]] for at in range(0, 60, 4)]
        return [max(batch) - min(batch) for batch in batches]

    assert sum(spans(order(1, 0))) < sum(spans(range(60))) / 2
