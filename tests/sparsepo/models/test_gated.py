"""Gated MLPs as one operation: the same values, gradients and files, and less that is kept."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from sparsepo.models.gated import fuse_gates
from sparsepo.training.loading import make_policy
from tests.small_models import ALL_ARCHITECTURES, small_model

GATED = {"llama": 3, "mistral": 2, "qwen2": 2, "gemma3_text": 2}
"""Small models with gated MLPs, and their layers."""
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.arange(1, 25).view(2, 12)


def model_of(architecture: str) -> Any:
    if architecture != "gemma3_text":
        return small_model(architecture)
    config = AutoConfig.for_model(
        "gemma3_text",
        vocab_size=160,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=64,
        max_position_embeddings=96,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return model.eval()


def adapted(model: Any) -> Any:
    torch.manual_seed(0)
    found: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=ALL))
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    return found


def results(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradient of every trained weight."""
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    weights = torch.linspace(-1, 1, logits.numel()).view(logits.shape)
    (logits.float().log_softmax(-1) * weights).sum().backward()
    found = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    return logits.detach(), found


def assert_same(ours: Any, expected: Any) -> None:
    logits, gradients = results(ours)
    wanted, theirs = results(expected)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    assert gradients.keys() == theirs.keys()
    assert gradients
    whole = sum(float(g.square().sum()) for g in theirs.values()) ** 0.5
    for name, gradient in gradients.items():
        error = float((gradient - theirs[name]).norm())
        assert error <= 1e-4 * max(float(theirs[name].norm()), 1e-3 * whole), name


@pytest.mark.parametrize("architecture", [*ALL_ARCHITECTURES, "gemma3_text"])
def test_a_model_computes_as_before(architecture: str) -> None:
    model, same = model_of(architecture), model_of(architecture)
    assert fuse_gates(model) == GATED.get(architecture, 0)
    assert fuse_gates(model) == 0
    assert_same(model, same)


def kept(model: Any) -> int:
    """Elements that are kept for the backward pass, each tensor counted once; no weights."""
    seen: dict[int, int] = {}
    weights = {weight.data_ptr() for weight in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights and tensor.is_floating_point():
            seen[address] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(input_ids=IDS).logits
    assert output.requires_grad
    return sum(seen.values())


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_each_layer_keeps_a_tensor_less(architecture: str, adapters: bool) -> None:
    model, same = model_of(architecture), model_of(architecture)
    if adapters:
        model, same = adapted(model), adapted(same)
    layers = fuse_gates(model)
    assert kept(same) - kept(model) == layers * IDS.numel() * model.config.intermediate_size
    assert_same(model, same)


@pytest.mark.parametrize("case", ["float64", "bfloat16", "hook", "autocast"])
def test_other_cases_take_their_usual_way(case: str) -> None:
    model, same = model_of("llama"), model_of("llama")
    fuse_gates(model)
    seen: list[Any] = []
    for one in (model, same):
        if case in ("float64", "bfloat16"):
            one.to(getattr(torch, case))
        if case == "hook":
            for layer in one.model.layers:
                layer.mlp.act_fn.register_forward_hook(lambda *_: seen.append(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        found, wanted = model(IDS).logits, same(IDS).logits
    assert torch.equal(found, wanted)
    assert len(seen) == (2 * 3 if case == "hook" else 0)


def test_models_can_be_copied_pickled_and_saved(tmp_path: Path) -> None:
    model, same = model_of("llama"), model_of("llama")
    fuse_gates(model)
    wanted, _ = results(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found, gradients = results(other)
        assert torch.equal(found, wanted)
        assert gradients
        assert fuse_gates(other) == 0
        # A copy has weights of its own.
        with torch.no_grad():
            for weight in other.parameters():
                weight.zero_()
        assert torch.equal(results(model)[0], wanted)
    assert list(model.state_dict()) == list(same.state_dict())
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert [type(module) for module in again.modules()] == [
        type(module) for module in same.modules()
    ]
    torch.testing.assert_close(again(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


def test_training_fuses_unless_it_uses_the_reference_implementation(tmp_path: Path) -> None:
    from sparsepo import POConfig

    def count(**options: Any) -> int:
        config = POConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", **options)
        policy = make_policy(model_of("llama"), config)
        return sum(hasattr(module, "original") for module in policy.modules())

    assert count() == count(lora_r=2) == 3
    assert count(computation="plain") == 0
