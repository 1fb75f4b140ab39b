"""The estimator against the exact KL of a model whose responses can all be listed."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tasks.metrics.response_kl import response_kl, sequence_logps
from tasks.models.generation import sample_ids

EOS, LONGEST, PROMPT = 0, 3, [1, 2]


class Tokenizer:
    eos_token_id = EOS
    pad_token_id = EOS


def toy(seed: int) -> Any:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=4, n_positions=8, n_embd=16, n_layer=1, n_head=2, initializer_range=0.6
    )
    return GPT2LMHeadModel(config).eval()


def responses() -> list[list[int]]:
    """Every response: those that end with EOS, and those cut at the longest length."""
    found = []
    for length in range(LONGEST):
        for body in itertools.product((1, 2, 3), repeat=length):
            found.append([*body, EOS])
    return found + [list(body) for body in itertools.product((1, 2, 3), repeat=LONGEST)]


def test_the_estimator_against_all_responses() -> None:
    policy, reference = toy(0), toy(1)
    space = responses()
    prompts = [PROMPT] * len(space)
    own = np.array(sequence_logps(policy, prompts, space))
    base = np.array(sequence_logps(reference, prompts, space, batch_size=3))
    shares = np.exp(own)
    assert shares.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.exp(base).sum() == pytest.approx(1.0, abs=1e-6)
    exact = float((shares * (own - base)).sum())
    assert exact > 0.05

    count = 4000
    sampled = sample_ids(
        policy,
        [PROMPT] * count,
        Tokenizer(),
        max_new_tokens=LONGEST,
        batch_size=count,
        seed=3,
    ).ids
    assert {tuple(ids) for ids in sampled} <= {tuple(ids) for ids in space}
    own = np.array(sequence_logps(policy, [PROMPT] * count, sampled))
    base = np.array(sequence_logps(reference, [PROMPT] * count, sampled))
    estimate = response_kl(own, base)
    error = float((own - base).std()) / math.sqrt(count)
    assert abs(estimate - exact) < 4 * error


def test_log_probabilities_are_those_of_the_model_alone() -> None:
    model = toy(2)
    ids = torch.tensor([[*PROMPT, 3, 1, EOS]])
    with torch.no_grad():
        logps = model(input_ids=ids).logits.log_softmax(-1)
    expected = sum(float(logps[0, place - 1, ids[0, place]]) for place in (2, 3, 4))
    alone = sequence_logps(model, [PROMPT], [[3, 1, EOS]])
    batched = sequence_logps(model, [PROMPT, [1], PROMPT], [[3, 1, EOS], [2] * 6, []])
    assert alone[0] == pytest.approx(expected, abs=1e-6)
    assert batched[0] == pytest.approx(expected, abs=1e-5)
    assert batched[2] == 0.0


def test_what_has_no_kl() -> None:
    with pytest.raises(ValueError, match="give no KL"):
        response_kl([], [])
    with pytest.raises(ValueError, match="give no KL"):
        response_kl([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="without a prompt"):
        sequence_logps(toy(0), [[]], [[1]])
    with pytest.raises(ValueError, match="longer than the context"):
        sequence_logps(toy(0), [[1] * 5], [[1] * 5])
    assert response_kl([-1.0, -2.0], [-1.5, -2.5]) == pytest.approx(0.5)
