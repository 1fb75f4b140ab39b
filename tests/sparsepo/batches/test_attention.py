"""FlexAttention's block mask is the dense mask, and each model gets the attention it can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers import PreTrainedModel
from transformers.integrations import flex_attention as flex

from sparsepo.batches.attention import (
    allowed_keys,
    attention_mask_for,
    block_mask,
    kernel_options_for,
    use_attention,
)
from sparsepo.batches.pack import pack_pairs
from sparsepo.errors import UserError
from sparsepo.models.capture import capture_activations, capture_layers, run_body
from sparsepo.models.plain import run_whole
from sparsepo.types import TokenizedPair
from tests.small_models import ALL_ARCHITECTURES, small_model, token_pairs

FLEX_ARCHITECTURES = ("gpt_neox", "llama", "mistral", "qwen2")
FAMILIES = ("mlp", "attention", "residual")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LAYOUTS: dict[str, dict[str, Any]] = {
    "a row of many": {"tokens_per_row": 400},
    "rows of some": {"tokens_per_row": 60},
    "a row each response": {"share_prompt": False},
}


@pytest.fixture
def without_kernels() -> Iterator[None]:
    """FlexAttention as plain tensor operations: the same values without a minute of compiling."""
    with torch.compiler.set_stance("force_eager"):
        yield


def in_flex(model: PreTrainedModel) -> PreTrainedModel:
    model.set_attn_implementation("flex_attention")
    return model


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("window", [None, 3])
def test_the_block_mask_allows_what_the_dense_mask_allows(
    layout: dict[str, Any], window: int | None
) -> None:
    model = in_flex(small_model("mistral", sliding_window=window))
    batch = pack_pairs(token_pairs(9, seed=2), **layout)
    mask = attention_mask_for(model, batch)
    assert isinstance(mask, BlockMask)
    rows, length = batch.input_ids.shape
    ours = create_mask(mask.mask_mod, rows, 1, length, length, "cpu")[:, 0]
    assert torch.equal(ours, allowed_keys(batch, window))
    assert torch.equal(ours, block_mask(batch, torch.float32, window)[:, 0] == 0)


def test_blocks_between_pairs_are_skipped() -> None:
    """A pair of three blocks, whose responses skip each other, and two of two: 5 + 3 + 3 of 49."""
    sizes = [(128, 128), (128, 64), (128, 64)]
    pairs = [TokenizedPair("pair", [1] * x, [2] * y, [3] * y) for x, y in sizes]
    batch = pack_pairs(pairs, tokens_per_row=1024)
    assert batch.input_ids.shape == (1, 896)
    mask = attention_mask_for(in_flex(small_model("llama")), batch)
    assert isinstance(mask, BlockMask)
    assert int(mask.to_dense().sum()) == 11


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("architecture", FLEX_ARCHITECTURES)
def test_flex_attention_runs_what_sdpa_runs(architecture: str, layout: dict[str, Any]) -> None:
    """Final states, layers and activations; forward only, since a CPU has no gradients for it."""
    batch = pack_pairs(token_pairs(7, seed=4), **layout)

    def run(model: PreTrainedModel) -> tuple[Any, Any, Any]:
        capturing = capture_activations(model, batch, FAMILIES)
        with torch.no_grad(), capture_layers(model, batch) as layers, capturing as found:
            hidden = run_body(model, batch, attention_mask_for(model, batch))
        return hidden, layers, found

    expected, ours = run(small_model(architecture)), run(in_flex(small_model(architecture)))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=2e-5)
    assert expected[0].std() > 0.1


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("architecture", ["mistral", "qwen2"])
def test_a_sliding_window_is_kept_to(architecture: str, attention: str) -> None:
    """Windows count tokens of a sequence, not cells of a row; Qwen2 has them in its last layers."""
    changes: dict[str, Any] = {"sliding_window": 5}
    if architecture == "qwen2":
        changes |= {"use_sliding_window": True, "max_window_layers": 1}
    pairs = token_pairs(4, seed=6)
    batch = pack_pairs(pairs, tokens_per_row=200)
    model = small_model(architecture, **changes)
    expected = []
    for side in ("chosen_ids", "rejected_ids"):
        for pair in pairs:
            ids = torch.tensor([pair.prompt_ids + getattr(pair, side)])
            with torch.no_grad():
                states = model.base_model(input_ids=ids).last_hidden_state[0]
            expected.append(states[len(pair.prompt_ids) - 1 : -1])
    model.set_attn_implementation(attention)
    with torch.no_grad():
        ours = run_body(model, batch, attention_mask_for(model, batch))
        unlimited = run_body(small_model(architecture), batch, block_mask(batch, torch.float32))
    torch.testing.assert_close(ours, torch.cat(expected), rtol=1e-5, atol=2e-5)
    assert (ours - unlimited).abs().max() > 1e-2


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("architecture", FLEX_ARCHITECTURES)
def test_flex_attention_is_asked_for_its_kernel_of_long_rows(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one for short rows cannot be compiled for grouped queries in torch 2.11 to 2.13."""
    asked: list[Any] = []
    own = flex.compile_friendly_flex_attention

    def record(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["kernel_options"])
        return own(*args, **kwargs)

    monkeypatch.setattr(flex, "compile_friendly_flex_attention", record)
    batch = pack_pairs(token_pairs(3, seed=4))
    model = in_flex(small_model(architecture))
    with torch.no_grad():
        run_body(model, batch, attention_mask_for(model, batch))
    assert asked == model.config.num_hidden_layers * [{"FORCE_USE_FLEX_ATTENTION": True}]
    assert kernel_options_for(model, block_mask(batch, torch.float32)) == {}


@pytest.mark.parametrize("computation", ["plain", "alone"])
def test_the_models_own_forward_pass_compiles_nothing(
    computation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flex, "compile_friendly_flex_attention", None)
    batch = pack_pairs(token_pairs(3, seed=4), share_prompt=False)
    model = in_flex(small_model("llama"))
    with torch.no_grad():
        ours = run_whole(model, batch, computation).logits
        expected = run_whole(small_model("llama"), batch, computation).logits
    assert torch.equal(ours, expected)
    assert model.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_autocast_leaves_padding_finite(attention: str, dtype: torch.dtype) -> None:
    """A float32 minimum is −inf in half precision: a row that sees nothing would be NaN."""
    model = small_model("llama", attn_implementation=attention)
    batch = pack_pairs([TokenizedPair("a", [1] * 9, [2], [3]), TokenizedPair("b", [1], [2], [3])])
    assert (batch.part == -1).any()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        mask = attention_mask_for(model, batch)
        ours = run_body(model, batch, mask)
    assert isinstance(mask, torch.Tensor)
    assert mask.to(dtype).isfinite().all()
    assert ours.isfinite().all()
    with torch.no_grad():
        expected = run_body(model, batch, attention_mask_for(model, batch))
    torch.testing.assert_close(ours.float(), expected, rtol=0.1, atol=0.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tokens_per_row", [None, 100, 500])
@pytest.mark.parametrize("architecture", FLEX_ARCHITECTURES)
def test_flex_attention_has_the_gradients_of_sdpa(
    architecture: str, tokens_per_row: int | None
) -> None:
    """Rows of one block and of several, none of them a multiple of a block's 128 tokens."""
    batch = pack_pairs(token_pairs(15, seed=4), tokens_per_row=tokens_per_row).to(CUDA)
    results = []
    for attention in ("sdpa", "flex_attention"):
        model = small_model(architecture, hidden_size=64).to(CUDA).train()
        use_attention(model, attention, CUDA)  # type: ignore[arg-type]
        hidden = run_body(model, batch, attention_mask_for(model, batch))
        loss = hidden.pow(2).mean()
        trained = [p for p in model.base_model.parameters() if p.requires_grad]
        results.append([hidden, *torch.autograd.grad(loss, trained)])
    for expected, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-4)


# What a model is given


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_auto_leaves_a_model_its_own_on_a_cpu(architecture: str) -> None:
    model = small_model(architecture)
    own = model.config._attn_implementation
    use_attention(model, "auto", CPU)
    assert model.config._attn_implementation == own


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_auto_is_flex_attention_on_cuda_where_there_is_one(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsepo.batches.attention.has_triton", lambda: True)
    size = "n_embd" if architecture in ("gpt2", "gptj", "gpt_bigcode") else "hidden_size"
    model = small_model(architecture, **{size: 64})
    own = model.config._attn_implementation
    use_attention(model, "auto", CUDA)
    expected = "flex_attention" if architecture in FLEX_ARCHITECTURES else own
    assert model.config._attn_implementation == expected


@pytest.mark.parametrize(
    ("architecture", "wanted", "device", "message"),
    [
        ("gptj", "sdpa", CPU, "gptj has no sdpa"),
        ("gptj", "flex_attention", CUDA, "gptj has no FlexAttention"),
        ("gpt2", "flex_attention", CUDA, "gpt2 has no FlexAttention"),
        ("llama", "flex_attention", CPU, "no gradients on a CPU"),
        ("llama", "flex_attention", CUDA, "smaller than 16 features"),
    ],
)
def test_what_cannot_be_done_is_a_users_error(
    architecture: str,
    wanted: Any,
    device: torch.device,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sparsepo.batches.attention.has_triton", lambda: True)
    model = small_model(architecture)
    own = model.config._attn_implementation
    with pytest.raises(UserError, match=message):
        use_attention(model, wanted, device)
    assert model.config._attn_implementation == own


def test_flex_attention_needs_triton_and_no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama", hidden_size=64, attention_dropout=0.1)
    monkeypatch.setattr("sparsepo.batches.attention.has_triton", lambda: False)
    with pytest.raises(UserError, match="needs Triton"):
        use_attention(model, "flex_attention", CUDA)
    monkeypatch.setattr("sparsepo.batches.attention.has_triton", lambda: True)
    with pytest.raises(UserError, match="does not support attention dropout"):
        use_attention(model, "flex_attention", CUDA)
    use_attention(model, "auto", CUDA)
    assert model.config._attn_implementation == "sdpa"
    # The reference runs without dropout anyway.
    use_attention(model, "flex_attention", CUDA, trained=False)
    assert model.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("wanted", ["eager", "sdpa"])
def test_a_choice_is_taken(wanted: Any) -> None:
    model = small_model("gpt2", attn_implementation="sdpa" if wanted == "eager" else "eager")
    use_attention(model, wanted, CPU)
    assert {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")} == {
        wanted
    }


def test_an_attention_without_block_masks_is_refused() -> None:
    model = small_model("llama")
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(UserError, match="flash_attention_2 does not; set attention"):
        attention_mask_for(model, pack_pairs(token_pairs(1)))
