"""The model interface that transformers.Trainer, accelerate and users need, for a wrapped policy.

A trainer's `model` is the policy with its masks. Some attributes (`hf_device_map`, `is_quantized`,
`get_output_embeddings` …) are deliberately missing, because Trainer or accelerate would then treat
the whole module like a bare model; the library checks these properties of the policy itself.
tests/sparsepo/training/test_as_model.py lists every attribute that transformers' Trainer reads.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from sparsepo.models.adapters import add_input_gradients
from sparsepo.reference.online import unwrap_peft


class ActsAsModel(nn.Module):
    """A module that forwards the model interface to the policy inside it."""

    policy: PreTrainedModel

    @property
    def config(self) -> Any:
        """The policy's configuration."""
        return self.policy.config

    @property
    def generation_config(self) -> Any:
        """The policy's generation configuration; training sets its special tokens."""
        return getattr(self.policy, "generation_config", None)

    @property
    def device(self) -> Any:
        """The policy's device."""
        return self.policy.device

    @property
    def dtype(self) -> Any:
        """The policy's dtype; masks are always float32."""
        return self.policy.dtype

    @property
    def name_or_path(self) -> str:
        """Folder or hub id that the policy was loaded from."""
        return str(self.policy.config.name_or_path)

    @property
    def main_input_name(self) -> str:
        """Name of the token ids in a batch, from which tokens and operations are counted."""
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
        """The adapters' configuration, for reports; the attribute is missing without adapters."""
        return self.policy.peft_config

    @property
    def _no_split_modules(self) -> Any:
        """Class names of the blocks, which FSDP gathers one at a time."""
        return unwrap_peft(self.policy)._no_split_modules

    @property
    def _keys_to_ignore_on_save(self) -> Any:
        """Names of weights that are not saved because they are tied to others."""
        return getattr(unwrap_peft(self.policy), "_keys_to_ignore_on_save", None)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of the policy's parameters, for counting operations."""
        inner: Any = unwrap_peft(self.policy)
        return int(inner.num_parameters(only_trainable, exclude_embeddings))

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return the numbers of (trainable, all) parameters of a policy with adapters."""
        outer: Any = self.policy
        counts: tuple[int, int] = outer.get_nb_trainable_parameters()
        return counts

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Tie the policy's embeddings and output projection again if they share weights."""
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
        """Save only the policy; POTrainer.save_model adds masks, method and tokenizer."""
        inner: Any = self.policy
        inner.save_pretrained(*args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Push only the policy; POTrainer.push_to_hub adds masks, method and tokenizer."""
        inner: Any = self.policy
        return inner.push_to_hub(*args, **kwargs)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether the policy recomputes activations in the backward pass."""
        return bool(self.policy.is_activation_checkpointing)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """The older name of the same property."""
        return self.is_activation_checkpointing

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Enable recomputation in the policy, under the name that transformers 6 will use."""
        how = kwargs.get("activation_checkpointing_kwargs") or {}
        if how.get("use_reentrant"):
            add_input_gradients(self.policy)
        self.policy.activation_checkpointing_enable(**kwargs)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """Enable recomputation in the policy."""
        self.policy.gradient_checkpointing_enable(**kwargs)

    def gradient_checkpointing_disable(self) -> None:
        """Disable recomputation in the policy."""
        self.policy.gradient_checkpointing_disable()
