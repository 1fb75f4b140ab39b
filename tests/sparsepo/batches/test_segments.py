"""Attention part by part has the values and gradients of attention under a mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sparsepo.batches import segments
from sparsepo.batches.attention import attention_mask_for, block_mask
from sparsepo.batches.pack import pack_pairs
from sparsepo.batches.segments import SegmentMask, with_segments
from sparsepo.models.capture import run_body
from sparsepo.types import PackedBatch, TokenizedPair
from tests.small_models import small_model

LENGTHS = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


def packed(lengths: list[tuple[int, int, int]], **options: Any) -> PackedBatch:
    pairs = [
        TokenizedPair(f"p{i}", *([1 + (i + j) % 90 for j in range(n)] for n in parts))
        for i, parts in enumerate(lengths)
    ]
    return pack_pairs(pairs, **options)


def segmented(batch: PackedBatch, dtype: torch.dtype = torch.float32) -> SegmentMask:
    mask = with_segments(block_mask(batch, dtype), batch)
    assert isinstance(mask, SegmentMask)
    return mask


def attend(states: list[Tensor], mask: Tensor, **options: Any) -> Tensor:
    query, key, value = states
    return functional.scaled_dot_product_attention(query, key, value, mask, **options)


@pytest.fixture(autouse=True)
def _short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SHORTEST", 1)


class Calls(TorchDispatchMode):
    """Counts the weights that are computed: queries × keys of all attention calls."""

    weights = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "scaled_dot_product" in str(func):
            self.weights += args[0].shape[0] * args[0].shape[2] * args[1].shape[2]
        return func(*args, **(kwargs or {}))


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=5),
    tokens_per_row=st.sampled_from([None, 30]),
    share_prompt=st.booleans(),
    rejected=st.booleans(),
    grouped=st.booleans(),
    queries=st.sampled_from([2, 128]),
)
def test_values_and_gradients_are_those_of_the_mask(
    lengths: list[tuple[int, int, int]],
    tokens_per_row: int | None,
    share_prompt: bool,
    rejected: bool,
    grouped: bool,
    queries: int,
) -> None:
    batch = packed(
        lengths, tokens_per_row=tokens_per_row, share_prompt=share_prompt, rejected=rejected
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_QUERIES", queries)
        mask = segmented(batch, torch.float64)
    rows, length = batch.input_ids.shape
    generator = torch.Generator().manual_seed(0)
    heads = (4, 2, 2) if grouped else (4, 4, 4)
    states = [
        torch.randn(rows, n, length, 3, generator=generator, dtype=torch.float64) for n in heads
    ]
    real = (batch.part >= 0)[:, None, :, None]
    found = []
    for one in (mask, block_mask(batch, torch.float64)):
        own = [state.clone().requires_grad_() for state in states]
        out = attend(own, one, scale=0.7, enable_gqa=grouped).masked_fill(~real, 0)
        (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        found.append([out.detach(), *(state.grad for state in own)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_response_attends_to_its_prompt_and_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = packed([(20, 20, 20)] * 3)
    mask = segmented(batch)
    states = [torch.randn(3, 2, 60, 8) for _ in range(3)]
    with Calls() as calls:
        attend(states, mask)
    # The prompt sees itself, and either response the prompt and itself.
    assert calls.weights == 3 * (20 * 20 + 2 * 20 * 40)
    with Calls() as calls:
        attend(states, torch.zeros(3, 1, 60, 60))
    assert calls.weights == 3 * 60 * 60
    monkeypatch.setattr(segments, "_QUERIES", 8)
    with Calls() as calls:
        attend(states, segmented(batch))
    assert calls.weights < 3 * (20 * 20 + 2 * 20 * 40)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gpt_bigcode", "llama", "qwen2"])
@pytest.mark.parametrize("unequal", [False, True])
def test_models_have_the_states_and_gradients_of_the_mask(
    architecture: str, unequal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [(7, 5, 6), (3, 9, 2), (7, 4, 8), (2, 2, 2)] if unequal else [(7, 5, 6)] * 4
    batch = packed(lengths, tokens_per_row=24)
    model = small_model(architecture).double()
    model.set_attn_implementation("sdpa")
    found = []
    for shortest in (1, 1000):
        monkeypatch.setattr(segments, "SHORTEST", shortest)
        mask = attention_mask_for(model, batch)
        assert isinstance(mask, SegmentMask) == (shortest == 1)
        model.zero_grad()
        states = run_body(model, batch, mask)
        assert type(states) is torch.Tensor
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([states.detach(), *grads])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_anything_else_sees_an_ordinary_tensor() -> None:
    batch = packed([(2, 3, 2), (1, 2, 4)])
    mask = segmented(batch)
    dense = block_mask(batch, torch.float32)
    for result in (mask + 1, mask[:, :, :3], mask.to(torch.float64), mask.expand(-1, 2, -1, -1)):
        assert type(result) is torch.Tensor
    assert torch.equal(mask + 0, dense)
    states = [torch.randn(*dense.shape[:1], 1, dense.shape[-1], 4) for _ in range(3)]
    # A cache of earlier keys, or dropout: the mask as it stands.
    torch.manual_seed(0)
    dropped = attend(states, mask, dropout_p=0.5)
    torch.manual_seed(0)
    assert torch.equal(dropped, attend(states, dense, dropout_p=0.5))


def test_eager_models_windows_and_short_rows_keep_the_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = packed([(7, 5, 6)] * 2)
    eager = small_model("llama")
    eager.set_attn_implementation("eager")
    assert type(attention_mask_for(eager, batch)) is torch.Tensor
    windowed = small_model("mistral", sliding_window=4)
    windowed.set_attn_implementation("sdpa")
    assert type(attention_mask_for(windowed, batch)) is torch.Tensor
    monkeypatch.setattr(segments, "SHORTEST", 19)
    assert type(with_segments(block_mask(batch, torch.float32), batch)) is torch.Tensor


def test_an_unpaired_row_has_one_response() -> None:
    pairs = [
        TokenizedPair("a", [1, 2], [3, 4, 5], [], label=True),
        TokenizedPair("b", [1, 2, 3], [], [4, 5], label=False),
    ]
    assert segmented(pack_pairs(pairs)).blocks == (
        (((0, 2), (0, 0), (0, 2)), slice(0, 1)),
        (((2, 5), (0, 2), (2, 5)), slice(0, 1)),
        (((0, 3), (0, 0), (0, 3)), slice(1, 2)),
        (((3, 5), (0, 3), (3, 5)), slice(1, 2)),
    )
