"""Packed rows are the same computation as separate runs, on every architecture."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from sparsepo.batches.attention import attention_mask_for, block_mask
from sparsepo.batches.pack import (
    PADDING,
    cells,
    level,
    pack_pairs,
    packed_length,
    plan_rows,
    to_responses,
)
from sparsepo.fused import token_stats
from sparsepo.models.capture import output_head, run_body
from sparsepo.types import PackedBatch, TokenizedPair
from tests.small_models import (
    ATTENTION_VARIANTS,
    CONTEXT,
    VOCABULARY,
    separate_logps,
    small_model,
    token_pairs,
)

on_every_model = pytest.mark.parametrize(("architecture", "attention"), ATTENTION_VARIANTS)
# One row holds more tokens than the models have positions.
LAYOUTS: dict[str, dict[str, Any]] = {
    "longest pair": {},
    "some a row": {"tokens_per_row": 50},
    "one row": {"tokens_per_row": 3 * CONTEXT},
    "a row each": {"share_prompt": False},
}
in_every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def packed_logps(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    hidden = run_body(model, batch, attention_mask_for(model, batch))
    head, bias = output_head(model)
    out = token_stats(hidden, head, None, None, batch.targets, policy_bias=bias)
    return to_responses(out.policy_logps, batch)


def test_the_layouts_are_different_ones() -> None:
    pairs = token_pairs(12, seed=3)
    rows = [pack_pairs(pairs, **layout).input_ids.shape[0] for layout in LAYOUTS.values()]
    assert rows[3] == 24 > rows[0] > rows[1] > rows[2] == 1
    assert pack_pairs(pairs, **LAYOUTS["one row"]).input_ids.shape[1] > CONTEXT


@on_every_model
@in_every_layout
def test_packed_forward_is_the_separate_forwards(
    architecture: str, attention: str, layout: dict[str, Any]
) -> None:
    model = small_model(architecture, attn_implementation=attention)
    pairs = token_pairs(12, seed=3)
    with torch.no_grad():
        batch = pack_pairs(pairs, **layout)
        packed = packed_logps(model, batch)
        for index, pair in enumerate(pairs):
            for side, ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
                expected = separate_logps(model, pair.prompt_ids, ids)
                ours = packed[side, index]
                torch.testing.assert_close(ours[: len(ids)], expected, rtol=1e-5, atol=2e-5)
                assert not ours[len(ids) :].any()
    # Wide weights: had the model ignored its input, every token would be about equally likely.
    assert packed[batch.response_mask].std() > 0.2


@on_every_model
@in_every_layout
def test_packed_gradients_are_those_of_the_separate_forwards(
    architecture: str, attention: str, layout: dict[str, Any]
) -> None:
    """The gradients of a DPO-like loss with respect to every parameter."""
    model = small_model(architecture, attn_implementation=attention)
    pairs = token_pairs(12, seed=3)
    separate = torch.stack(
        [
            separate_logps(model, p.prompt_ids, p.chosen_ids).sum()
            - separate_logps(model, p.prompt_ids, p.rejected_ids).sum()
            for p in pairs
        ]
    )
    packed = packed_logps(model, pack_pairs(pairs, **layout)).sum(-1)
    results = []
    for margins in (separate, packed[0] - packed[1]):
        loss = -torch.nn.functional.logsigmoid(0.1 * margins).mean()
        parameters = [p for p in model.parameters() if p.requires_grad]
        results.append([loss, *torch.autograd.grad(loss, parameters, allow_unused=True)])
    largest = max(g.abs().max().item() for g in results[0][1:] if g is not None)
    assert largest > 1e-3
    for expected, ours in zip(*results, strict=True):
        assert (expected is None) == (ours is None)
        if expected is not None:
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-6 * max(1.0, largest))


@on_every_model
@pytest.mark.parametrize("tokens_per_row", [None, 3 * CONTEXT])
def test_padding_and_batch_mates_do_not_move_a_pair(
    architecture: str, attention: str, tokens_per_row: int | None
) -> None:
    model = small_model(architecture, attn_implementation=attention)
    pairs = token_pairs(4, seed=7)
    long = TokenizedPair("long", list(range(1, 30)), list(range(1, 25)), list(range(1, 20)))
    with torch.no_grad():
        alone = packed_logps(model, pack_pairs(pairs[:1]))
        mates = [*pairs[1:], long, pairs[0]]
        among = packed_logps(model, pack_pairs(mates, tokens_per_row=tokens_per_row))
    torch.testing.assert_close(among[:, -1, : alone.shape[-1]], alone[:, 0], rtol=1e-5, atol=2e-5)


def test_a_response_does_not_see_the_other_one() -> None:
    """Changing the chosen response leaves the rejected log-probabilities exactly as they were."""
    model = small_model("llama", attn_implementation="eager")
    first = TokenizedPair("a", [1, 2, 3], [4, 5, 6, 0], [7, 8, 9, 0])
    second = TokenizedPair("a", [1, 2, 3], [9, 9, 9, 0], [7, 8, 9, 0])
    with torch.no_grad():
        before, after = (packed_logps(model, pack_pairs([pair])) for pair in (first, second))
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


def test_a_prompt_of_one_token_predicts_both_first_tokens() -> None:
    batch = pack_pairs([TokenizedPair("a", [5], [6, 0], [7, 8, 0])])
    assert batch.input_ids.tolist() == [[5, 6, 0, 7, 8, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 1, 2, 3]]
    assert batch.predictor_index.tolist() == [0, 1, 0, 3, 4]
    assert batch.targets.tolist() == [6, 0, 7, 8, 0]
    assert batch.response_mask.tolist() == [[[True, True, False]], [[True, True, True]]]
    blocked = torch.finfo(torch.float32).min
    allowed = (block_mask(batch, torch.float32)[0, 0] != blocked).int().tolist()
    assert allowed == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 1, 1, 1],
    ]


def test_without_rejected_responses_they_are_neither_run_nor_counted() -> None:
    pairs = token_pairs(3, seed=1)
    batch = pack_pairs(pairs, rejected=False)
    assert batch.response_mask.shape[0] == 1
    assert batch.response_mask.sum() == sum(len(pair.chosen_ids) for pair in pairs)
    assert not (batch.part == 2).any()
    assert batch.targets.tolist() == [token for pair in pairs for token in pair.chosen_ids]


ids = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(ids, ids, ids), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 60)),
)
def test_every_token_has_its_place(
    sequences: list[tuple[list[int], list[int], list[int]]],
    share: bool,
    rejected: bool,
    tokens_per_row: int | None,
) -> None:
    """The layout by its definition: predictor_index points at the token before, stat_index at the
    response."""
    pairs = [TokenizedPair(f"p{i}", *sequence) for i, sequence in enumerate(sequences)]
    batch = pack_pairs(pairs, share_prompt=share, rejected=rejected, tokens_per_row=tokens_per_row)
    responses = [[p.chosen_ids for p in pairs], [p.rejected_ids for p in pairs]][: 1 + rejected]
    laid_out = to_responses(batch.targets + 1, batch)
    for side, per_pair in enumerate(responses):
        for index, response in enumerate(per_pair):
            row = laid_out[side, index].tolist()
            assert row == [*(t + 1 for t in response), *[0] * (len(row) - len(response))]
    allowed = block_mask(batch, torch.float64)[:, 0] == 0
    flat_ids, flat_positions = batch.input_ids.flatten(), batch.position_ids.flatten()
    length = batch.input_ids.shape[1]
    expected = [
        pair.prompt_ids + response[:t]
        for side in responses
        for pair, response in zip(pairs, side, strict=True)
        for t in range(len(response))
    ]
    assert len(expected) == len(batch.predictor_index)
    for source, context in zip(batch.predictor_index.tolist(), expected, strict=True):
        # What a predicting position may look at is exactly x, y_<t, in order of position.
        seen = (
            allowed[source // length, source % length].nonzero()[:, 0] + source // length * length
        )
        assert flat_ids[seen].tolist() == context
        assert flat_positions[seen].tolist() == list(range(len(context)))


@given(
    st.lists(st.tuples(ids, ids, ids), min_size=1, max_size=10),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 60)),
)
def test_every_pair_stands_once_in_a_row(
    sequences: list[tuple[list[int], list[int], list[int]]],
    rejected: bool,
    tokens_per_row: int | None,
) -> None:
    """Whole and in one piece, within the budget, in no more cells than one pair a row takes."""
    pairs = [TokenizedPair(f"p{i}", *sequence) for i, sequence in enumerate(sequences)]
    batch = pack_pairs(pairs, rejected=rejected, tokens_per_row=tokens_per_row)
    lengths = [packed_length(pair, rejected) for pair in pairs]
    for index, pair in enumerate(pairs):
        places = (batch.pair_index == index).nonzero()
        assert len(places) == lengths[index]
        (row,) = set(places[:, 0].tolist())
        start = int(places[0, 1])
        assert places[:, 1].tolist() == list(range(start, start + lengths[index]))
        whole = pair.prompt_ids + pair.chosen_ids + (pair.rejected_ids if rejected else [])
        assert batch.input_ids[row, start : start + lengths[index]].tolist() == whole
    rows, length = batch.input_ids.shape
    assert int((batch.pair_index >= 0).sum()) == sum(lengths)
    assert length <= max([*lengths, tokens_per_row or 1])
    assert rows * length <= len(pairs) * max(lengths)
    assert torch.equal(
        batch.stat_index.sort().values, batch.response_mask.flatten().nonzero()[:, 0]
    )
    again = pack_pairs(pairs, rejected=rejected, tokens_per_row=tokens_per_row)
    assert all(torch.equal(a, b) for a, b in zip(tensors(batch), tensors(again), strict=True))


def tensors(batch: PackedBatch) -> list[Tensor]:
    return [value for value in vars(batch).values() if isinstance(value, Tensor)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(1, 150))
def test_no_two_rows_could_be_one(lengths: list[int], budget: int) -> None:
    """Best-fit leaves at most one row half empty; levelling adds no row and raises no cell."""
    capacity = max(*lengths, budget) if len(lengths) > 1 else max(lengths[0], budget)
    rows = plan_rows(lengths, budget)
    assert sorted(chain.from_iterable(rows)) == list(range(len(lengths)))
    assert max(sum(lengths[item] for item in row) for row in rows) <= capacity
    tight = plan_rows(lengths)
    filled = sorted(sum(lengths[item] for item in row) for row in tight)
    assert all(a + b > max(lengths) for a, b in pairwise(filled))
    assert cells(rows, lengths) <= cells(tight, lengths) <= len(lengths) * max(lengths)


def test_rows_by_hand() -> None:
    assert plan_rows([5, 9, 4, 3, 6]) == [[0, 2], [1], [3, 4]]
    assert plan_rows([3, 3, 3, 3, 3], 6) == [[0], [1], [2], [3], [4]]
    assert plan_rows([7, 3, 3, 4, 3], 10) == [[0, 1], [2, 3, 4]]
    # Rows of 12, 12 and 6 would take 36 cells, rows no longer than 7 take 35, levelled ones 33.
    lengths = [7, 5, 5, 4, 3, 3, 3]
    assert plan_rows(lengths, 12) == [[0, 5], [1, 3], [2, 4, 6]]
    assert cells(plan_rows(lengths, 12), lengths) == 33
    assert cells(plan_rows(lengths), lengths) == 35


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.data())
def test_level_spreads_evenly(lengths: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(lengths)))
    rows = level(lengths, count)
    assert len(rows) == count
    assert all(rows)
    assert sorted(chain.from_iterable(rows)) == list(range(len(lengths)))
    sums = [sum(lengths[item] for item in row) for row in rows]
    assert max(sums) - min(sums) <= max(lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fully_masked_rows_stay_finite(dtype: torch.dtype) -> None:
    batch = pack_pairs(
        [TokenizedPair("a", [1], [2], [3]), TokenizedPair("b", [1] * 9, [2] * 9, [3] * 9)]
    )
    assert (batch.part == PADDING).any()
    mask = block_mask(batch, dtype)
    assert mask.dtype == dtype
    assert mask.softmax(-1).isfinite().all()


@pytest.mark.parametrize(
    "pair", [TokenizedPair("odd", [], [1], [1]), TokenizedPair("odd", [1], [], [1])]
)
def test_empty_sequences_are_refused_by_name(pair: TokenizedPair) -> None:
    with pytest.raises(ValueError, match="Pair odd"):
        pack_pairs([pair])


def test_an_empty_rejected_response_is_refused_only_where_it_is_used() -> None:
    pair = TokenizedPair("odd", [1], [1], [])
    with pytest.raises(ValueError, match="Pair odd"):
        pack_pairs([pair])
    assert pack_pairs([pair], rejected=False).targets.tolist() == [1]


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        pack_pairs([])


def test_the_batch_moves_as_a_whole() -> None:
    batch = pack_pairs(token_pairs(2)).to("meta")
    assert len(tensors(batch)) == 8
    assert {value.device.type for value in tensors(batch)} == {"meta"}
