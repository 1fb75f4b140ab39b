"""The order of prompts: whole epochs in whole steps, blocks that a resumed run finds again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sparsepo.training.rollout_order import RolloutOrder


@given(
    st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.integers(0, 3)
)
def test_blocks_and_order_agree(
    prompts: int, step: int, steps: int, repeats: int, epoch: int
) -> None:
    if prompts < step:
        return
    order = RolloutOrder(prompts, step, steps, repeats, seed=7)
    order.set_epoch(epoch)
    drawn = list(order)
    assert len(drawn) == len(order)
    # Each prompt at most once in an epoch's rollouts, and as few as possible left out.
    assert len(set(drawn)) == prompts // step * step
    assert all(drawn.count(item) == repeats for item in set(drawn))
    first = epoch * order.steps_per_epoch
    for number in range(order.steps_per_epoch):
        block = order.block_at(first + number)
        own = drawn[number * step : (number + 1) * step]
        assert set(own) <= set(block.items)
        assert first <= block.start <= first + number
        assert first + number < block.start + len(block.items) // step * repeats


def test_epochs_differ_and_seeds_repeat() -> None:
    orders = [RolloutOrder(20, 4, 1, 1, seed=3) for _ in range(2)]
    first = list(orders[0])
    orders[0].set_epoch(1)
    assert first == list(orders[1])
    assert first != list(orders[0])
