"""Fused adapters, norms and gated MLPs: the same values, gradients and files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from sparsepo.models.layer_ops import fuse_layers
from sparsepo.training.loading import make_policy
from tests.small_models import ALL_ARCHITECTURES, small_model

FUSED = {"llama": 3 * 3 + 1, "mistral": 3 * 2 + 1, "qwen2": 3 * 2 + 1, "gemma3_text": 7 * 2 + 1}
"""Norms and MLPs of the small models: two norms and an MLP per layer (Gemma: six norms), one norm
at the end."""
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


def adapted(model: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    found: Any = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=ALL, **options)
    )
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
    assert fuse_layers(model) == FUSED.get(architecture, 0)
    assert fuse_layers(model) == 0
    assert_same(model, same)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_adapters_compute_as_before(architecture: str) -> None:
    model, same = adapted(model_of(architecture)), adapted(model_of(architecture))
    layers = model.config.num_hidden_layers
    assert fuse_layers(model) == FUSED[architecture] + 7 * layers
    assert_same(model, same)
    # Without adapters, merged, and after a second adapter has been added.
    with model.disable_adapter(), same.disable_adapter():
        torch.testing.assert_close(model(IDS).logits, same(IDS).logits, rtol=1e-4, atol=1e-4)
    for one in (model, same):
        torch.manual_seed(1)
        one.add_adapter("other", LoraConfig(r=2, target_modules=ALL, init_lora_weights=False))
        one.set_adapter("other")
    assert_same(model, same)
    for one in (model, same):
        one.merge_adapter()
    torch.testing.assert_close(model(IDS).logits, same(IDS).logits, rtol=1e-4, atol=1e-4)


class Shapes(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count[name] = self.count.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def operations(model: Any) -> dict[str, int]:
    with Shapes() as shapes:
        results(model)
    return shapes.count


def test_the_fused_way_is_taken_and_shorter() -> None:
    model, same = adapted(model_of("llama")), adapted(model_of("llama"))
    fuse_layers(model)
    ours, theirs = operations(model), operations(same)
    assert "pow" not in ours and theirs["pow"] > 0
    assert ours.get("mul", 0) < theirs["mul"] / 2
    assert sum(ours.values()) < 0.8 * sum(theirs.values())


@pytest.mark.parametrize("case", ["dropout", "float64", "bfloat16", "hook", "trained base", "dora"])
def test_other_cases_take_their_usual_way(case: str) -> None:
    options = {"lora_dropout": 0.5} if case == "dropout" else {}
    options |= {"use_dora": True} if case == "dora" else {}
    model, same = (adapted(model_of("llama"), **options) for _ in range(2))
    fuse_layers(model)
    seen: list[Any] = []
    for one in (model, same):
        if case in ("float64", "bfloat16"):
            one.to(getattr(torch, case))
        if case == "hook":
            for module in one.modules():
                if isinstance(module, nn.Linear):
                    module.register_forward_hook(lambda *_: seen.append(1))
        if case == "trained base":
            for weight in one.parameters():
                weight.requires_grad_()
        if case == "dropout":
            one.train()
            torch.manual_seed(5)
            found = one(IDS).logits
            torch.manual_seed(5)
            assert torch.equal(found, one(IDS).logits)
    if case == "hook":
        model(IDS)
        mine = len(seen)
        same(IDS)
        assert len(seen) == 2 * mine > 0
    if case == "bfloat16":
        torch.testing.assert_close(model(IDS).logits, same(IDS).logits, rtol=0, atol=0)
    elif case != "dropout":
        assert_same(model, same)


def test_models_can_be_copied_pickled_and_saved(tmp_path: Path) -> None:
    model, same = adapted(model_of("llama")), adapted(model_of("llama"))
    fuse_layers(model)
    wanted, _ = results(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found, gradients = results(other)
        assert torch.equal(found, wanted)
        assert gradients
        assert fuse_layers(other) == 0
        # A copy has weights of its own.
        with torch.no_grad():
            for weight in other.parameters():
                weight.zero_()
        assert torch.equal(results(model)[0], wanted)
    assert list(model.state_dict()) == list(same.state_dict())
    whole = model.merge_and_unload()
    whole.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


def test_a_norm_by_another_formula_stays_as_it_is() -> None:
    class OtherRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((8,), 2.0))
            self.eps = 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) + 0.1

    module = nn.Sequential(OtherRMSNorm())
    assert fuse_layers(module) == 0
    assert type(module[0]) is OtherRMSNorm


def test_training_fuses_unless_it_uses_the_reference_implementation(tmp_path: Path) -> None:
    from sparsepo import POConfig

    def count(**options: Any) -> int:
        config = POConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", **options)
        policy = make_policy(model_of("llama"), config)
        return sum(hasattr(module, "original") for module in policy.modules())

    assert count() == FUSED["llama"]
    assert count(lora_r=2) == FUSED["llama"] + 2 * 3
    assert count(computation="plain") == 0
