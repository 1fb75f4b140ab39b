"""Stand-ins for models on the hub: their architecture with random weights, a few layers wide."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from harness.commands.plan.facts import MODELS
from sparsepo.errors import UserError
from tasks.metrics.text.summac import CONV_SHAPES
from tasks.models.base_model import train_tokenizer

COMMIT = "0" * 40
"""The revision of every stand-in."""
_VOCABULARY = 1_000
_LAYERS, _WIDTH, _HEADS = 2, 64, 4
_CAUSAL: dict[str, dict[str, Any]] = {
    # The names of width, layers, heads and context differ; what else differs is below them.
    "gpt_neox": {
        "hidden_size": _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "intermediate_size": 4 * _WIDTH,
        "max_position_embeddings": 0,
    },
    "gpt2": {"n_embd": _WIDTH, "n_layer": _LAYERS, "n_head": _HEADS, "n_positions": 0},
    "gpt_bigcode": {"n_embd": _WIDTH, "n_layer": _LAYERS, "n_head": _HEADS, "n_positions": 0},
    "gptj": {
        "n_embd": _WIDTH,
        "n_layer": _LAYERS,
        "n_head": _HEADS,
        "n_positions": 0,
        "rotary_dim": 4,
    },
    "gpt_neo": {
        "hidden_size": _WIDTH,
        "num_layers": _LAYERS,
        "num_heads": _HEADS,
        "max_position_embeddings": 0,
        "attention_types": [[["global", "local"], _LAYERS // 2]],
    },
}
_LABELS = {
    "sentiment": ("NEGATIVE", "POSITIVE"),
    "entailment": ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO"),
}


def write_model(name: str, texts: Iterable[str], cache: Path) -> None:
    """Write a stand-in where the hub's client looks for a model that it has fetched.

    Depth and width are reduced, and the vocabulary with them; the context, the dtype of the stored
    weights, the special tokens, and the lack of a chat template are the model's. An encoder keeps
    its layers, because a metric may read a certain one.

    Args:
        name: the model's id.
        texts: what its tokenizer learns from.
        cache: the hub's cache.

    Raises:
        UserError: the architecture of the model is not known.
    """
    known = MODELS.get(name)
    if known is None:
        raise UserError(
            f"There is no stand-in for {name}, whose architecture is not known; give a model's "
            "folder, or a model that a profile names."
        )
    architecture, _, head = known.architecture.partition(":")
    if architecture in _CAUSAL:
        tokenizer = _causal_tokenizer(texts, known.context)
        model = _causal(architecture, known.context, len(tokenizer))
    else:
        tokenizer = _encoder_tokenizer(texts, architecture)
        model = _encoder(architecture, head, known.shape.layers, known.context, len(tokenizer))
    if known.stored == 2:
        model = model.half()
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    model.save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT, encoding="ascii")


def write_conv_weights(file: Path) -> None:
    """Write random weights in the place of SummaC-Conv's own, which are not on the hub."""
    torch.manual_seed(0)
    torch.save({name: torch.randn(shape) for name, shape in CONV_SHAPES.items()}, file)


def _causal(architecture: str, context: int, vocabulary: int) -> Any:
    values = {
        key: context if key in ("n_positions", "max_position_embeddings") else value
        for key, value in _CAUSAL[architecture].items()
    }
    # Published vocabularies are padded beyond the tokenizer's.
    config = AutoConfig.for_model(
        architecture, vocab_size=vocabulary + 24, bos_token_id=0, eos_token_id=0, **values
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def _causal_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    trained = train_tokenizer(texts, _VOCABULARY, context)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained.backend_tokenizer,
        bos_token=trained.bos_token,
        eos_token=trained.eos_token,
        unk_token=trained.eos_token,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _encoder(architecture: str, head: str, layers: int, context: int, vocabulary: int) -> Any:
    labels = _LABELS.get(head, ())
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS,
        intermediate_size=2 * _WIDTH,
        max_position_embeddings=context,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **({"embedding_size": _WIDTH // 2} if architecture == "albert" else {}),
        **(
            {"id2label": dict(enumerate(labels)), "label2id": {v: k for k, v in enumerate(labels)}}
            if labels
            else {}
        ),
    )
    torch.manual_seed(0)
    if labels:
        return AutoModelForSequenceClassification.from_config(config)
    return AutoModelForMaskedLM.from_config(config)


def _encoder_tokenizer(texts: Iterable[str], architecture: str) -> PreTrainedTokenizerFast:
    names = {
        "roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
        "albert": ("[CLS]", "<pad>", "[SEP]", "<unk>", "[MASK]"),
    }
    first, padding, last, unknown, mask = names[architecture]
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(names[architecture]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    between = f"{last} {last}" if architecture == "roberta" else last
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {between} $B {last}",
        special_tokens=[(first, 0), (last, 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=first,
        cls_token=first,
        pad_token=padding,
        eos_token=last,
        sep_token=last,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
