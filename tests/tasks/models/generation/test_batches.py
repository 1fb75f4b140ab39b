"""A sample is the same in every batch: with any size, order, neighbours and number of samples."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

from tasks.models.generation import sample_ids
from tests.small_models import PAPER_ARCHITECTURES, VOCABULARY, small_model, small_tokenizer

TOKENIZER = small_tokenizer()


def prompts(count: int, vocabulary: int = VOCABULARY) -> list[list[int]]:
    generator = random.Random(4)
    found = [
        [generator.randrange(1, vocabulary) for _ in range(generator.randint(1, 40))]
        for _ in range(count - 4)
    ]
    # Repeated prompts share their computation.
    return [*found, found[0], found[0], found[1], found[2]]


def sampled(model: Any, of: list[list[int]], **options: Any) -> list[list[int]]:
    return sample_ids(model, of, TOKENIZER, **{"max_new_tokens": 12, "seed": 9, **options}).ids


@pytest.mark.parametrize("temperature", [0.0, 0.75])
@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
def test_batch_size_and_order_change_no_sample(architecture: str, temperature: float) -> None:
    # Tied to the embeddings, the output repeats one token.
    model = small_model(architecture, tie_word_embeddings=False)
    of = prompts(16)
    names = [f"prompt {index}" for index in range(len(of))]
    options = {"temperature": temperature, "top_p": 1.0}
    together = sampled(model, of, prompt_ids=names, batch_size=64, **options)
    assert len({tuple(ids) for ids in together}) > 8
    for size in (1, 8):
        assert sampled(model, of, prompt_ids=names, batch_size=size, **options) == together
    order = list(range(len(of)))
    random.Random(1).shuffle(order)
    shuffled = sampled(
        model,
        [of[i] for i in order],
        prompt_ids=[names[i] for i in order],
        batch_size=8,
        **options,
    )
    assert shuffled == [together[i] for i in order]


def test_batches_with_rows_that_end_early() -> None:
    # Of so few tokens, EOS is often the next one.
    model = small_model("gpt2", spread=1.5, vocab_size=30)
    of = prompts(30, vocabulary=30)
    options = {"temperature": 1.0, "max_new_tokens": 40}
    together = sampled(model, of, batch_size=64, **options)
    lengths = {len(ids) for ids in together}
    assert len(lengths) > 8
    assert all(0 not in ids[:-1] for ids in together)
    assert sampled(model, of, batch_size=1, **options) == together
    assert sampled(model, of, batch_size=7, top_p=0.9, **options) == sampled(
        model, of, batch_size=64, top_p=0.9, **options
    )


def test_a_sample_ignores_the_other_prompts_and_what_ran_before() -> None:
    model = small_model("gpt_neox", spread=1.5)
    of = prompts(12)[:8]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    together = sampled(model, of)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert sampled(model, of[3:5]) == together[3:5]
    assert sampled(model, of, seed=10) != together
    # The id is part of the seed, the text is not.
    assert sampled(model, of, prompt_ids=list("abcdefgh")) != together


def test_equal_prompts_get_different_samples() -> None:
    model = small_model("gpt2", spread=1.5)
    found = sampled(model, [[5, 6]] * 20)
    assert len({tuple(ids) for ids in found}) > 15
    assert sampled(model, [[5, 6]] * 12, batch_size=5) == found[:12]


def test_greedy_samples_are_those_of_generate() -> None:
    for architecture in (*PAPER_ARCHITECTURES, "mistral", "qwen2"):
        model = small_model(architecture, spread=1.5)
        for ids in prompts(8)[:2]:
            expected = model.generate(
                torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0
            )[0, len(ids) :]
            assert sampled(model, [ids], temperature=0, max_new_tokens=12) == [expected.tolist()]


@pytest.mark.parametrize("kind", ["bloom", "mamba"])
def test_models_without_positions_or_without_this_cache(kind: str) -> None:
    torch.manual_seed(0)
    model: Any
    if kind == "bloom":
        config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
        model = BloomForCausalLM(config)
    else:
        model = MambaForCausalLM(
            MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    model.eval()
    of = prompts(10)
    assert sampled(model, of, batch_size=1) == sampled(model, of, batch_size=10)
