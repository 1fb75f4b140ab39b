"""The workloads of a benchmark: the paper's four model and data shapes, at full or CPU width."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from sparsepo.data.jsonl import write_jsonl


@dataclass(frozen=True)
class Shape:
    """A model and the lengths of the pairs that it is trained on."""

    name: str
    title: str
    architecture: str
    """transformers' model_type."""
    layers: int
    width: int
    heads: int
    vocabulary: int
    prompt: int
    """Tokens of each prompt."""
    response: int
    """Tokens of each response, the end-of-sequence token included."""
    pairs: int = 4
    """Pairs per step."""
    kv_heads: int | None = None
    """Heads of keys and values; None for one each per head of queries."""
    feed_forward: int | None = None
    """Width of the feed-forward layer; None for four times the model's."""
    tied: bool | None = None
    """Whether the output projection is the embedding; None as the architecture usually has it."""

    def useful_flops(self) -> float:
        """Return the minimum number of floating-point operations of one step.

        2 per weight and token forward, 4 backward; the body reads each prompt once, the head reads
        only response tokens; the policy runs forward and backward, the reference forward. The
        products of attention, 1 to 3 % at these lengths, are not counted. The count is the same for
        every system, which makes utilisations comparable.
        """
        body = self.layers * self.block_weights()
        head = self.vocabulary * self.width
        tokens = self.pairs * (self.prompt + 2 * self.response)
        return (6 + 2) * (body * tokens + head * self.pairs * 2 * self.response)

    def block_weights(self) -> int:
        """Return the number of weights in the matrices of a layer."""
        if self.feed_forward is None:
            return 12 * self.width**2
        attention = 2 * self.width**2
        attention += 2 * self.width**2 * (self.kv_heads or self.heads) // self.heads
        # Llama's feed-forward layer has a third matrix, its gate.
        matrices = 3 if self.architecture == "llama" else 2
        return attention + matrices * self.width * self.feed_forward


FULL = (
    Shape("imdb", "GPT-2 large, IMDB 8+48", "gpt2", 36, 1280, 20, 50257, 8, 48, pairs=64),
    Shape("hh", "Pythia 1.4B, HH 120+120", "gpt_neox", 24, 2048, 16, 50304, 120, 120, pairs=32),
    Shape("tldr", "GPT-J 6B, TL;DR 350+40", "gptj", 28, 4096, 16, 50400, 350, 40, pairs=8),
    Shape("mbpp", "StarCoder 1B, MBPP 120+90", "gpt_bigcode", 24, 2048, 16, 49152, 120, 90, 32),
)
"""The paper's models and typical lengths."""

LAPTOP = Shape(
    "smollm2",
    "SmolLM2 135M, HH 120+120",
    "llama",
    30,
    576,
    9,
    49152,
    120,
    120,
    pairs=32,
    kv_heads=3,
    feed_forward=1536,
    tied=True,
)
"""The shape of SmolLM2-135M-Instruct, with HH's typical lengths."""

LORA_TARGETS = {
    "gptj": ("q_proj", "v_proj"),
    "llama": ("q_proj", "v_proj"),
    "gpt_neox": ("query_key_value",),
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
}
"""The projections that get adapters in every system, those that the trainer chooses by default."""

CPU_WIDTH, CPU_LAYERS, CPU_HEADS = 256, 6, 4

NARROW = tuple(
    replace(
        shape,
        title=f"{shape.title}, at width {CPU_WIDTH}",
        layers=CPU_LAYERS,
        width=CPU_WIDTH,
        heads=CPU_HEADS,
        pairs=4,
    )
    for shape in FULL
)
"""The same architectures, vocabularies and lengths, narrow enough for two CPU cores."""


def write_model(shape: Shape, folder: Path, *, weights: bool = True) -> None:
    """Save a random-weight model of a shape with a tokenizer of the same vocabulary size.

    Args:
        shape: the model's shape.
        folder: where to.
        weights: False saves only the configuration, for `model_in_memory`.
    """
    import torch

    size: dict[str, Any]
    context = max(1024, shape.prompt + shape.response)
    if shape.architecture in ("gpt_neox", "llama"):
        size = {
            "hidden_size": shape.width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.feed_forward or 4 * shape.width,
            "max_position_embeddings": context,
        }
        if shape.architecture == "llama":
            size["num_key_value_heads"] = shape.kv_heads or shape.heads
    else:
        size = {
            "n_embd": shape.width,
            "n_layer": shape.layers,
            "n_head": shape.heads,
            "n_positions": context,
        }
        if shape.architecture == "gptj":
            size["rotary_dim"] = min(64, shape.width // shape.heads)
        else:
            size |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    end = shape.vocabulary - 1
    tied = shape.architecture in ("gpt2", "gpt_bigcode") if shape.tied is None else shape.tied
    config = AutoConfig.for_model(
        shape.architecture,
        vocab_size=shape.vocabulary,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        tie_word_embeddings=tied,
        **size,
    )
    if weights:
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    write_tokenizer(shape.vocabulary, context, folder)


def write_tokenizer(vocabulary: int, context: int, folder: Path) -> None:
    """Save a tokenizer of as many made-up words; the last is the end of sequence.

    Args:
        vocabulary: number of words.
        context: longest text of the model, in tokens.
        folder: where to.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    end = vocabulary - 1
    words = {_word(index): index for index in range(end)} | {"<end>": end}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", model_max_length=context
    )
    fast.save_pretrained(folder)


def model_in_memory(folder: Path, device: str, dtype: str) -> Any:
    """Return a model of the configuration in a folder, its random weights drawn on the device.

    Drawing six billion weights on a CPU, and writing and reading them, would take minutes.

    Args:
        folder: see `write_model`.
        device: "cpu" or "cuda".
        dtype: of the weights.
    """
    import torch

    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def _word(index: int) -> str:
    return f"w{index}"


def write_pairs(shape: Shape, count: int, file: Path, seed: int = 0) -> None:
    """Write `count` preference pairs of random words, all of the shape's lengths, as JSON lines."""
    draw = random.Random(seed)

    def words(number: int) -> str:
        return " ".join(_word(draw.randrange(shape.vocabulary - 1)) for _ in range(number))

    def row() -> dict[str, str]:
        return {
            "prompt": words(shape.prompt),
            # The end-of-sequence token is the response's last.
            "chosen": " " + words(shape.response - 1),
            "rejected": " " + words(shape.response - 1),
        }

    write_jsonl((row() for _ in range(count)), file)


def write_real_pairs(
    shape: Shape, rows: Sequence[tuple[str, str, str]], file: Path, longest: int = 512
) -> None:
    """Write real pairs with their own lengths, each word replaced by one of the shape's words.

    Args:
        shape: the shape whose vocabulary is used.
        rows: (prompt, chosen, rejected) texts.
        file: the output file.
        longest: maximum tokens of a sequence; prompts are truncated from the left.
    """
    known: dict[str, str] = {}

    def words(text: str) -> list[str]:
        return [
            known.setdefault(word, _word(len(known) % (shape.vocabulary - 1)))
            for word in text.split()
        ]

    def row(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
        responses = [words(text)[: longest // 2] or [_word(0)] for text in (chosen, rejected)]
        room = longest - max(len(response) for response in responses) - 1
        return {
            "prompt": " ".join(words(prompt)[-room:] or [_word(0)]),
            "chosen": " " + " ".join(responses[0]),
            "rejected": " " + " ".join(responses[1]),
        }

    write_jsonl((row(*texts) for texts in rows), file)
