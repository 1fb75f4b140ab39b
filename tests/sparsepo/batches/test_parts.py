"""A large model's micro-batch is cut into parts on a CPU; a small model's stays whole."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPTBigCodeConfig, LlamaConfig

from sparsepo.batches.pack import cells, plan_rows
from sparsepo.batches.parts import in_parts, tokens_at_once

lengths = st.lists(st.integers(2, 60), min_size=1, max_size=20)
budgets = st.one_of(st.none(), st.integers(1, 200))


def largest(groups: list[list[int]], lengths: list[int], budget: int | None) -> int:
    own = [[lengths[item] for item in group] for group in groups]
    return max(cells(plan_rows(group, budget), group) for group in own)


@given(lengths, st.integers(1, 400), budgets)
def test_every_pair_is_in_a_part_and_no_part_is_too_large(
    lengths: list[int], most: int, budget: int | None
) -> None:
    groups = in_parts(lengths, most, budget)
    assert all(groups)
    assert sorted(chain.from_iterable(groups)) == list(range(len(lengths)))
    assert all(group == sorted(group) for group in groups)
    assert len(groups) == len(lengths) or largest(groups, lengths, budget) <= most
    # Without need nothing is cut.
    assert len(groups) == 1 or largest([list(range(len(lengths)))], lengths, budget) > most


def test_parts_are_few_and_put_like_with_like() -> None:
    assert in_parts([20, 40, 20, 40], 120) == [[0, 1, 2, 3]]
    assert in_parts([20, 40, 20, 40], 80) == [[1, 3], [0, 2]]
    assert in_parts([20, 40, 20, 40], 79) == [[1], [3], [0, 2]]
    assert in_parts([10, 40, 10, 40], 1) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(num_hidden_layers=30, hidden_size=576), 485),
        (GPT2Config(n_layer=12, n_embd=768), 910),
        (GPTBigCodeConfig(n_layer=3, n_embd=96), 29127),
        (LlamaConfig(num_hidden_layers=80, hidden_size=2**17), 1),
    ],
)
def test_the_wider_and_deeper_the_fewer_tokens(config: Any, expected: int) -> None:
    assert tokens_at_once(config) == expected


def test_a_model_of_unknown_size_is_not_cut() -> None:
    def config(**known: Any) -> Any:
        return SimpleNamespace(get_text_config=lambda: SimpleNamespace(**known))

    assert tokens_at_once(config(num_hidden_layers=2)) is None
    assert tokens_at_once(config(hidden_size=[8, 16], num_hidden_layers=2)) is None
