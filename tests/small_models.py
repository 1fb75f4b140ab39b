"""Small random-weight models of the real architectures, and a tokenizer, for all tests."""

from __future__ import annotations

import functools
import random
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from sparsepo.masks import LearnedMask
from sparsepo.methods.base import Method
from sparsepo.training.policy import make_masks
from sparsepo.types import PreferencePair, TokenizedPair

VOCABULARY = 160
CONTEXT = 96

_CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT},
    "gpt_neox": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    },
    "gptj": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT, "rotary_dim": 4},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT},
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    },
    "mistral": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    },
    "qwen2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    },
}
PAPER_ARCHITECTURES = ("gpt2", "gpt_neox", "gptj", "gpt_bigcode", "llama")
ALL_ARCHITECTURES = tuple(_CONFIGS)
ATTENTION_VARIANTS = [
    (architecture, attention)
    for architecture in ALL_ARCHITECTURES
    for attention in ("eager", "sdpa")
    # transformers has no SDPA for GPT-J.
    if (architecture, attention) != ("gptj", "sdpa")
]


def small_model(
    architecture: str, *, seed: int = 0, spread: float = 3.0, **changes: Any
) -> PreTrainedModel:
    """Return a model whose weights are drawn wide enough for its distributions to differ."""
    config = AutoConfig.for_model(
        architecture,
        **{
            "vocab_size": VOCABULARY,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": None,
            **_CONFIGS[architecture],
            **changes,
        },
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(spread)
            elif "bias" in name:
                parameter.normal_(std=0.1)
    return model.eval()


def living_masks(method: Method, reference: PreTrainedModel, seed: int = 38) -> nn.ModuleDict:
    """Return a method's masks, drawn so that some of their values are 0 and some are not."""
    torch.manual_seed(seed)
    masks = make_masks(method, reference)
    for mask in masks.values():
        if isinstance(mask, LearnedMask) and mask.layers == "all":
            with torch.no_grad():
                # Layers add to each other, and a token's mask is 0 where all of them are.
                mask.mixer.weight.abs_()
                for layer in mask.w_per_layer:
                    layer.w.bias.zero_()
                    layer.w.weight.mul_(3)
    return masks


def separate_logps(model: PreTrainedModel, prompt: list[int], response: list[int]) -> Tensor:
    """Log-probabilities of a response, from a run of its own without mask or positions."""
    ids = torch.tensor([prompt + response])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]


@functools.cache
def _trained_tokenizer() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!?:|<>\nĠĊ"),
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog saw it"] * 3, trainer)
    return str(tokenizer.to_str())


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most VOCABULARY tokens, EOS at id 0."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer()),
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )


_WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "and",
    "dog",
    "saw",
    "it",
    "a",
    "big",
    "red",
    "hat",
    "was",
    "lost",
    "in",
    "town",
]


def text_pairs(count: int, seed: int = 0) -> list[PreferencePair]:
    """Return pairs of short word sequences of varied length."""
    generator = random.Random(seed)

    def words(low: int, high: int) -> str:
        return " ".join(generator.choices(_WORDS, k=generator.randint(low, high)))

    return [
        PreferencePair(f"pair-{i}", words(2, 6), f" {words(2, 7)} good", f" {words(1, 9)} bad")
        for i in range(count)
    ]


def token_pairs(count: int, seed: int = 0) -> list[TokenizedPair]:
    """Return pairs of random token ids of varied length, EOS last."""
    generator = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [generator.randrange(1, VOCABULARY) for _ in range(generator.randint(low, high))]

    return [
        TokenizedPair(f"pair-{i}", ids(1, 9), [*ids(1, 8), 0], [*ids(0, 12), 0])
        for i in range(count)
    ]
