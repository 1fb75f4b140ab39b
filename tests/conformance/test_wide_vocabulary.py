"""Models of 262,144 words: the same losses and gradients as the reference implementation.

The head is tied to the embedding, and trained with it or frozen under adapters.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparsepo import PreferencePair
from sparsepo.batches.pack import pack_pairs
from sparsepo.models.adapters import add_adapters
from sparsepo.training.start_check import START_CHECK
from tests.conformance.test_both_computations import assert_gradients_agree
from tests.invariant.training import make_trainer
from tests.small_models import small_model, text_pairs

WORDS = 262_144
METHODS = ("dpo", "tdpo1", "sparsepo-common")


def wide_model(*, adapters: bool) -> Any:
    """Return a narrow Llama with very many words, some way from its start."""
    model: Any = small_reference()
    if adapters:
        model = add_adapters(model, 2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                scale = 0.3 if "lora_B" in name else 0.3 * float(weight.std())
                weight += scale * torch.randn(weight.shape, generator=generator)
    return model


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation makes, in elements; views of weights make none."""

    def __init__(self, *models: Any) -> None:
        super().__init__()
        self.weights = {w.data_ptr() for model in models for w in model.parameters()}
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in self.weights:
                self.elements = max(self.elements, leaf.untyped_storage().nbytes() // 4)
        return out


def step(
    folder: Path, method: str, computation: str, pairs: list[PreferencePair], *, adapters: bool
) -> tuple[float, dict[str, Tensor | None], int]:
    """Return the loss, every gradient, and the elements of the largest tensor of a step."""
    trainer = make_trainer(
        folder,
        method,
        model=wide_model(adapters=adapters),
        # Adapters that were trained before are the reference too, so a model of its own is given.
        ref_model=None if adapters else small_reference(),
        pairs=pairs,
        computation=computation,
        check_reference=False,
    )
    batch = pack_pairs(trainer.train_dataset, share_prompt=computation == "packed")
    torch.manual_seed(0)
    trainer.model.train()
    if adapters:
        # The reference is the start of these adapters; they have to differ from it.
        with torch.no_grad():
            for name, weight in trainer.model.named_parameters():
                if weight.requires_grad and "lora_B" in name:
                    weight.mul_(1.5)
    assert trainer.reference is not None
    with Largest(trainer.model, trainer.reference.model) as largest:
        loss = trainer.compute_loss(trainer.model, vars(batch))
        loss.backward()
    gradients = {
        name: weight.grad
        for name, weight in trainer.model.named_parameters()
        if weight.requires_grad
    }
    return loss.item(), gradients, largest.elements


def small_reference() -> Any:
    """Return the model that `wide_model` starts from."""
    return small_model(
        "llama",
        vocab_size=WORDS,
        tie_word_embeddings=True,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )


def test_the_start_check_is_not_misled_by_the_rounding_of_a_wide_softmax(tmp_path: Path) -> None:
    """`log_softmax` over so many words is off by 3e-5 nats, which says nothing of packed rows."""
    model = small_reference()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # logits that are as far apart as a trained model's
    trainer = make_trainer(tmp_path, "dpo", model=model, max_steps=1)
    assert trainer.model.computation == "packed"
    trainer.train()
    found = [entry[START_CHECK] for entry in trainer.state.log_history if START_CHECK in entry]
    assert found[0] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [True, False], ids=["frozen head", "tied head"])
@pytest.mark.parametrize("method", METHODS)
def test_262144_words(tmp_path: Path, method: str, adapters: bool) -> None:
    pairs = text_pairs(2)
    packed, plain = (
        step(tmp_path / computation, method, computation, pairs, adapters=adapters)
        for computation in ("packed", "plain")
    )
    assert packed[0] == pytest.approx(plain[0], rel=1e-5)
    assert packed[0] != pytest.approx(math.log(2), abs=1e-4)
    assert packed[1] and all(gradient is not None for gradient in packed[1].values())
    # In sums over so many words, single precision differs with the size of the machine's blocks.
    assert_gradients_agree(packed[1], plain[1], factor=5)
    head = WORDS * 16
    tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs) // 8
    assert plain[2] > tokens * WORDS
    if adapters:
        # Neither a gradient of the head nor a copy of it: nothing is larger than a block.
        assert packed[2] < head
        assert not any("embed" in name or "lm_head" in name for name in packed[1])
    else:
        assert packed[2] <= head
