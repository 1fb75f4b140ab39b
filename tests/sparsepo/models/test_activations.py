"""Spelled-out GELU becomes one operation: same values, same gradients, same saved model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation

from sparsepo.models.activations import fuse_activations
from tests.small_models import PAPER_ARCHITECTURES, small_model

SPELLED_OUT = {"gpt2": 3, "gptj": 3}
"""Small models whose activation is spelled out, and in how many blocks."""


@pytest.mark.parametrize("spelled_out", [NewGELUActivation, FastGELUActivation])
def test_it_is_the_same_function(spelled_out: type[torch.nn.Module]) -> None:
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64, requires_grad=True)
    mine, theirs = GELUTanh()(x), spelled_out()(x)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    (ours,) = torch.autograd.grad(mine.sum(), x)
    (expected,) = torch.autograd.grad(theirs.sum(), x)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
def test_a_model_computes_and_saves_as_before(tmp_path: Path, architecture: str) -> None:
    model, same = small_model(architecture), small_model(architecture)
    ids = torch.arange(24).view(2, 12)
    assert fuse_activations(model) == SPELLED_OUT.get(architecture, 0)
    assert fuse_activations(model) == 0
    torch.testing.assert_close(model(ids).logits, same(ids).logits, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, same(ids).logits)
    assert [type(module) for module in again.modules()] == [
        type(module) for module in same.modules()
    ]
