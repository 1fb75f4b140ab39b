"""TI-DPO: the influence of tokens on the last prediction, and the weights made of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from sparsepo import get_method
from sparsepo.batches.pack import pack_pairs
from sparsepo.conformance.drawn import random_pair
from sparsepo.methods.ti_dpo import TIDPO
from sparsepo.models.plain import Computation
from sparsepo.training.importance import token_importance
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.types import TokenStats
from tests.small_models import small_model, token_pairs


def alone(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    """The definition, on a sequence of its own."""
    embedding = model.get_input_embeddings()
    embedded = embedding(torch.tensor([prompt + response])).detach().requires_grad_()
    logits = model(inputs_embeds=embedded).logits[0, -1]
    (gradient,) = torch.autograd.grad(logits.max(), embedded)
    return gradient[0, len(prompt) :].abs().sum(-1)


def policy_of(model: Any, computation: Computation) -> PolicyWithMasks:
    return PolicyWithMasks(model, nn.ModuleDict(), computation)


@pytest.mark.parametrize("computation", ["packed", "plain", "alone"])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_it_is_that_of_each_response_alone(architecture: str, computation: Computation) -> None:
    model = small_model(architecture, seed=3)
    pairs = token_pairs(5)
    batch = pack_pairs(
        pairs,
        tokens_per_row=200 if computation == "packed" else None,
        share_prompt=computation == "packed",
    )
    # The module is called where gradients are off, too: in evaluation.
    with torch.no_grad():
        found = token_importance(policy_of(model, computation), batch)
    assert found.shape == batch.response_mask.shape and not found.requires_grad
    assert all(weight.grad is None for weight in model.parameters())
    for place, pair in enumerate(pairs):
        for side, ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
            expected = alone(model, pair.prompt_ids, ids)
            assert (expected > 0).all()
            # If two logits are almost equal, their order is rounding; these models' are not.
            torch.testing.assert_close(
                found[side, place, : len(ids)] / found[side, place].sum(),
                expected / expected.sum(),
                rtol=2e-3,
                atol=1e-5,
            )
            assert not found[side, place, len(ids) :].any()


def test_frozen_embeddings_under_adapters_have_it_too() -> None:
    model: Any = get_peft_model(small_model("gpt2", seed=3), LoraConfig(target_modules=["c_attn"]))
    (pair,) = token_pairs(1)
    found = token_importance(policy_of(model, "packed"), pack_pairs([pair]))
    expected = alone(model.get_base_model(), pair.prompt_ids, pair.chosen_ids)
    torch.testing.assert_close(found[0, 0, : len(expected)], expected, rtol=2e-3, atol=1e-5)


# Weights


def stats(importance: list[list[float]], lengths: list[int]) -> TokenStats:
    values = torch.tensor(importance, dtype=torch.float64)
    inside = torch.arange(values.shape[1]) < torch.tensor(lengths)[:, None]
    zeros = torch.zeros_like(values)
    return TokenStats(zeros, zeros, None, inside, importance=values)


def test_weights_by_hand() -> None:
    # The value on padding, 9, must not count.
    found = TIDPO(lam=0.7).weights(stats([[1, 3, 4, 9], [2, 9, 9, 9]], [3, 1]))
    side = math.exp(-((1 / (3 / 4)) ** 2) / 2)
    place = torch.tensor([side, 1, side], dtype=torch.float64) / (1 + 2 * side)
    influence = torch.tensor([1, 3, 4], dtype=torch.float64) / 8
    torch.testing.assert_close(found[0, :3], 0.7 * influence + 0.3 * place)
    assert found[0, 3] == 0 and found[1].tolist() == [1, 0, 0, 0]
    long = TIDPO(lam=0.7, total="length").weights(stats([[1, 3, 4, 9]], [3]))
    torch.testing.assert_close(long.sum(), torch.tensor(3.0, dtype=torch.float64))


def test_a_last_prediction_that_nothing_influences_leaves_the_place() -> None:
    found = TIDPO(lam=0.5).weights(stats([[0, 0, 0]], [3]))
    torch.testing.assert_close(found, TIDPO(lam=0.0).weights(stats([[1, 2, 3]], [3])) / 2)


def test_the_loss_is_weighted_dpo_with_these_weights_and_dpo_with_equal_ones() -> None:
    method = TIDPO(beta=0.3, lam=0.6)
    sides = random_pair(TIDPO)
    weighted = [
        replace(side, token_weights=method.weights(side), importance=None) for side in sides
    ]
    other = get_method("weighted-dpo", beta=0.3)
    torch.testing.assert_close(method(*sides).per_pair, other(*weighted).per_pair)
    equal = [replace(side, importance=torch.ones_like(side.policy_logps)) for side in sides]
    plain = get_method("dpo", beta=0.3)
    torch.testing.assert_close(
        TIDPO(beta=0.3, lam=1.0, total="length")(*equal).per_pair, plain(*sides).per_pair
    )
