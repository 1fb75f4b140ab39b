"""A tiny model, a tokenizer and pairs, which let every example run offline within seconds.

Replace `tiny_model()` with a folder or the id of a model on the hub, and `PAIRS` with your rows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SUBJECTS = [
    "the cat",
    "the dog",
    "my hat",
    "a house",
    "the town",
    "this film",
    "her book",
    "the sea",
]

PAIRS = [
    {"prompt": f"Tell me about {subject}.", "chosen": f" I like {subject}.", "rejected": " No."}
    for subject in SUBJECTS
]
"""Rows as `python -m sparsepo train --data` reads them: one dictionary per pair."""


def tiny_model(folder: Path | None = None) -> str:
    """Save a Llama of a few thousand random weights with its tokenizer, and return the folder."""
    folder = folder or Path(tempfile.mkdtemp(prefix="tiny-"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for row in PAIRS for text in row.values()], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", model_max_length=128
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
