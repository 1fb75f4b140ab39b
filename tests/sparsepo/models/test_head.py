"""What a model does to its logits is read from its own forward pass, not from option names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sparsepo.batches.attention import attention_mask_for
from sparsepo.batches.pack import pack_pairs
from sparsepo.fused import IDENTITY, LogitTransform, token_stats
from sparsepo.masks import feature_mean
from sparsepo.models.capture import mean_logits
from sparsepo.models.head import OutputHead, find_head
from tests.small_models import VOCABULARY, separate_logps, small_model, token_pairs

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 96,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}

HEADS: dict[str, tuple[dict[str, Any], OutputHead]] = {
    "gemma2": (
        {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
        OutputHead(LogitTransform(1.0, 3.0)),
    ),
    "nanochat": ({}, OutputHead(LogitTransform(1.0, 15.0))),
    "cohere": ({"logit_scale": 0.25}, OutputHead(LogitTransform(0.25))),
    "granite": ({"logits_scaling": 8.0}, OutputHead(LogitTransform(0.125))),
    "hyperclovax": ({"logits_scaling": 8.0}, OutputHead(LogitTransform(8.0))),
    # It divides the hidden states by hidden_size / dim_model_base.
    "inkling_text": ({}, OutputHead(LogitTransform(1 / 24))),
    "modernbert-decoder": ({}, OutputHead(before="lm_head")),
    "bert": ({"is_decoder": True}, OutputHead(before="cls.predictions.transform")),
    "llama": ({}, OutputHead()),
    # Its forward calls a part of the body alone.
    "opt": ({"ffn_dim": 64, "word_embed_proj_dim": 32}, OutputHead()),
    "phi": ({}, OutputHead()),
}


def model_of(architecture: str, **changes: Any) -> PreTrainedModel:
    """Return a small model whose logits reach well into a cap."""
    config = AutoConfig.for_model(architecture, **{**SMALL, **HEADS[architecture][0], **changes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    return model.eval()


def close_to(head: OutputHead) -> OutputHead:
    """Return a head that is equal to those with the same scale and cap up to rounding."""
    scale = pytest.approx(head.transform.scale, rel=1e-6)
    return OutputHead(LogitTransform(scale, head.transform.cap), head.words, head.before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("architecture", HEADS)
def test_the_head_of_real_architectures_is_found(architecture: str, dtype: torch.dtype) -> None:
    model = model_of(architecture).to(dtype)
    assert find_head(model) == close_to(HEADS[architecture][1])


@pytest.mark.parametrize("architecture", ["gemma2", "cohere", "granite", "modernbert-decoder"])
def test_packed_rows_through_the_head_are_the_model_itself(architecture: str) -> None:
    model = model_of(architecture)
    head = find_head(model)
    pairs = token_pairs(3)
    batch = pack_pairs(pairs, tokens_per_row=90)
    with torch.no_grad():
        hidden = head.final_states(model, batch, attention_mask_for(model, batch))
        weight, bias = head.weights(model)
        ours = token_stats(
            hidden,
            weight,
            None,
            None,
            batch.targets,
            policy_bias=bias,
            policy_transform=head.transform,
        ).policy_logps
        expected = [separate_logps(model, p.prompt_ids, p.chosen_ids) for p in pairs]
        expected += [separate_logps(model, p.prompt_ids, p.rejected_ids) for p in pairs]
    torch.testing.assert_close(ours, torch.cat(expected), rtol=1e-5, atol=1e-5)


def test_looking_leaves_the_model_as_it_was() -> None:
    model = small_model("llama").train()
    model.model.layers[0].eval()
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    find_head(model)
    assert torch.rand(1) == before
    assert model.training
    assert not model.model.layers[0].training
    assert "forward" not in vars(model.model)
    assert "forward" not in vars(model.lm_head)
    assert not model.lm_head._forward_hooks


def with_logits(change: Any, architecture: str = "llama") -> PreTrainedModel:
    """Return a model that does something of its own to its logits."""
    model = small_model(architecture)
    own = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = own(*args, **kwargs)
        output.logits = change(output.logits)
        return output

    model.forward = forward  # type: ignore[method-assign]
    return model


def test_a_vocabulary_that_is_cut_is_cut_in_the_projection_too() -> None:
    model = with_logits(lambda logits: logits[..., :100] * 2)
    head = find_head(model)
    assert head == OutputHead(LogitTransform(2.0), words=100)
    weight, _ = head.weights(model)
    assert len(weight) == 100


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits + 0.01 * logits.square(),
        lambda logits: logits / logits.norm(dim=-1, keepdim=True),
        lambda logits: logits.clamp(-40, 40),
        lambda logits: -logits,
        lambda logits: logits * torch.linspace(0.5, 1, logits.shape[-1]),
        lambda logits: logits.index_fill(-1, torch.tensor([3]), -1e9),
    ],
    ids=["square", "norm", "clamp", "negative", "per word", "a word ruled out"],
)
def test_anything_else_is_unknown(change: Any) -> None:
    assert find_head(with_logits(change)).unknown


def test_a_scale_that_is_trained_is_unknown() -> None:
    """Its gradient is the model's own affair."""
    scale = nn.Parameter(torch.tensor(2.0))
    assert find_head(with_logits(lambda logits: logits * scale)).unknown
    scale.requires_grad_(False)
    assert find_head(with_logits(lambda logits: logits * scale)).transform.scale == 2


def test_a_forward_that_cannot_be_followed_gives_the_bare_projection() -> None:
    model = small_model("llama")
    model.lm_head.forward = None
    assert find_head(model) == OutputHead()


@pytest.mark.parametrize(
    "transform", [IDENTITY, LogitTransform(0.3), LogitTransform(1.5, 2.0)], ids=str
)
def test_the_mean_of_transformed_logits_is_that_of_the_logits(transform: LogitTransform) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(9, 8, generator=generator), torch.randn(50, 8, generator=generator)
    bias = torch.randn(50, generator=generator)
    logits = transform.apply_(torch.nn.functional.linear(hidden, weight, bias))
    found = mean_logits(hidden, weight, bias, transform)
    torch.testing.assert_close(found.mean, feature_mean(logits).mean, rtol=1e-5, atol=1e-6)
