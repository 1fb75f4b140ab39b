"""What transformers.Trainer, accelerate and users ask of a model, answered by the policy in it.

A trainer's `model` is the policy with its masks. What is missing here on purpose (`hf_device_map`,
`is_quantized`, `get_output_embeddings` …) would have Trainer or accelerate treat the whole module
as they treat a bare model; the library checks those properties of the policy itself. Every
attribute that transformers' Trainer reads is named in tests/sparsepo/training/test_as_model.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from sparsepo.models.adapters import add_input_gradients
from sparsepo.reference.online import unwrap_peft


class ActsAsModel(nn.Module):
    """A module that answers for the policy inside it."""

    policy: PreTrainedModel

    @property
    def config(self) -> Any:
        """The policy's configuration."""
        return self.policy.config

    @property
    def generation_config(self) -> Any:
        """The policy's; training aligns its special tokens with the tokenizer's."""
        return getattr(self.policy, "generation_config", None)

    @property
    def device(self) -> Any:
        """Where the policy is."""
        return self.policy.device

    @property
    def dtype(self) -> Any:
        """The policy's dtype; masks stay float32."""
        return self.policy.dtype

    @property
    def name_or_path(self) -> str:
        """Folder or hub id that the policy was loaded from."""
        return str(self.policy.config.name_or_path)

    @property
    def main_input_name(self) -> str:
        """Name of the token ids in a batch, by which tokens and operations are counted."""
        return "input_ids"

    @property
    def model_tags(self) -> list[str] | None:
        """Tags for the model card of a model that is pushed to the hub."""
        return getattr(self.policy, "model_tags", None)

    def add_model_tags(self, tags: list[str] | str) -> None:
        """Add tags for the model card."""
        inner: Any = self.policy
        inner.add_model_tags(tags)

    @property
    def peft_config(self) -> Any:
        """The adapters' configuration, for reports; no such attribute without adapters."""
        return self.policy.peft_config

    @property
    def _no_split_modules(self) -> Any:
        """Names of the classes of blocks, which FSDP gathers one at a time."""
        return unwrap_peft(self.policy)._no_split_modules

    @property
    def _keys_to_ignore_on_save(self) -> Any:
        """Names of weights that are not saved because others hold the same values."""
        return getattr(unwrap_peft(self.policy), "_keys_to_ignore_on_save", None)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of the policy's parameters, for the count of operations."""
        inner: Any = unwrap_peft(self.policy)
        return int(inner.num_parameters(only_trainable, exclude_embeddings))

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return (trainable, all) parameters of a policy with adapters."""
        outer: Any = self.policy
        counts: tuple[int, int] = outer.get_nb_trainable_parameters()
        return counts

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Tie the policy's embeddings and output projection again, where they share weights."""
        inner: Any = unwrap_peft(self.policy)
        inner.tie_weights(*args, **kwargs)

    def can_generate(self) -> bool:
        """Return whether the policy can generate text."""
        inner: Any = unwrap_peft(self.policy)
        return bool(inner.can_generate())

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate from the policy."""
        inner: Any = self.policy
        return inner.generate(*args, **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save the policy alone; POTrainer.save_model adds masks, method and tokenizer."""
        inner: Any = self.policy
        inner.save_pretrained(*args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Push the policy alone; POTrainer.push_to_hub adds masks, method and tokenizer."""
        inner: Any = self.policy
        return inner.push_to_hub(*args, **kwargs)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether the policy recomputes activations in the backward pass."""
        return bool(self.policy.is_activation_checkpointing)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """The same by its old name."""
        return self.is_activation_checkpointing

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Switch on recomputation in the policy, by the name that transformers 6 will call."""
        how = kwargs.get("activation_checkpointing_kwargs") or {}
        if how.get("use_reentrant"):
            add_input_gradients(self.policy)
        self.policy.activation_checkpointing_enable(**kwargs)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """Switch on recomputation in the policy."""
        self.policy.gradient_checkpointing_enable(**kwargs)

    def gradient_checkpointing_disable(self) -> None:
        """Switch it off."""
        self.policy.gradient_checkpointing_disable()
