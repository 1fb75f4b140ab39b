"""What transformers asks of a model is answered by the policy, or left out for a reason."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Trainer
from transformers.integrations import integration_utils

from sparsepo.training.policy import PolicyWithMasks
from tests.invariant.training import make_trainer
from tests.small_models import small_model

LEFT_OUT = {
    # Asked of a PEFT model alone, which the trained module is not.
    "active_adapters", "base_model", "get_base_model", "load_adapter", "set_adapter",
    # Our compute_loss says itself what it makes of num_items_in_batch.
    "accepts_loss_kwargs",
    "loss_type",
    # Checked on the policy when it is loaded: a device map, bits, weights sharded at load time.
    "hf_device_map", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method",
    "is_distributed_loading_by_transformers", "_tp_size", "tp_size",
    # Methods of DeepSpeed's, FSDP's, SageMaker's and XLA's wrappers, called on them.
    "DistributedModel", "get_shard_metadata", "register_post_step_hook", "save_checkpoint",
    "set_requires_all_reduce", "set_requires_gradient_sync",
    # A model from tf or from integrations' own libraries by the same variable name.
    "Model", "connect", "is_enabled", "update_weights_package",
}  # fmt: skip
NAMES = r"(?:self\.)?(?:unwrapped_model|model_to_inspect|opt_model|model_wrapped|model)"


def asked_for() -> set[str]:
    """Return the attributes that Trainer and its reporting callbacks read on a model."""
    text = inspect.getsource(Trainer) + inspect.getsource(integration_utils)
    found = set(re.findall(rf"\b{NAMES}\.([A-Za-z_]\w*)", text))
    found |= set(re.findall(rf"(?:getattr|hasattr)\(\s*{NAMES},\s*\"(\w+)\"", text))
    return found


@pytest.fixture
def module() -> PolicyWithMasks:
    return PolicyWithMasks(get_peft_model(small_model("llama"), LoraConfig(r=4)), nn.ModuleDict())


def test_every_attribute_is_answered_or_left_out_for_a_reason(module: PolicyWithMasks) -> None:
    names = asked_for()
    assert {"config", "num_parameters", "generate", "tie_weights"} <= names
    missing = {name for name in names - LEFT_OUT if not hasattr(module, name)}
    assert not missing, "transformers asks a model for something new"


@pytest.mark.parametrize("name", sorted({"hf_device_map", "tp_size", "is_loaded_in_4bit"}))
def test_what_is_left_out_is_not_there(module: PolicyWithMasks, name: str) -> None:
    assert not hasattr(module, name)


def test_accelerate_finds_no_embeddings_to_shard_apart(module: PolicyWithMasks) -> None:
    """FSDP would give embeddings and head units of their own, and the loss reads the head."""
    assert not hasattr(module, "get_input_embeddings")
    assert not hasattr(module, "get_output_embeddings")


def test_answers_are_the_policys(module: PolicyWithMasks) -> None:
    policy: Any = module.policy
    assert module.config is policy.config
    assert module.generation_config is policy.generation_config
    assert module.peft_config is policy.peft_config
    assert module.num_parameters() == policy.get_base_model().num_parameters()
    assert module.get_nb_trainable_parameters() == policy.get_nb_trainable_parameters()
    assert module.can_generate() is True
    assert module.device == policy.device and module.dtype == policy.dtype
    module.tie_weights()
    plain = PolicyWithMasks(small_model("gpt2"), nn.ModuleDict())
    assert not hasattr(plain, "peft_config")
    plain.add_model_tags(["preferences"])
    assert plain.model_tags == ["preferences"]


def test_the_usual_lines_after_training_work(tmp_path: Path) -> None:
    """trainer.model.generate and trainer.model.save_pretrained, as scripts have them."""
    import torch

    trainer = make_trainer(tmp_path, "sparsepo-common", max_steps=1)
    trainer.train()
    trainer.model.eval()
    out = trainer.model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False)
    assert out.shape[0] == 1
    trainer.model.save_pretrained(tmp_path / "plain")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    for name, value in saved.state_dict().items():
        assert torch.equal(value, trainer.policy.state_dict()[name])
    assert trainer.state.total_flos > 0
