"""Trains a tiny NLI model from scratch, on statements whose labels are known.

No package carries an NLI model. For texts of an embedded world, whose language is small, a BERT of
a few hundred thousand parameters learns what entails what within a minute on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from sparsepo.errors import UserError
from tasks.metrics.text.nli import LABELS

_PAD, _UNKNOWN, _CLS, _SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


@dataclass(frozen=True, slots=True)
class NliConfig:
    """Architecture and training of the model."""

    layers: int = 2
    width: int = 96
    heads: int = 4
    steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 60
    weight_decay: float = 0.01
    max_tokens: int = 128
    """Tokens of premise and hypothesis together."""
    seed: int = 0


def train_nli(
    rows_train: Sequence[Mapping[str, Any]],
    rows_held_out: Sequence[Mapping[str, Any]],
    output: Path,
    config: NliConfig | None = None,
) -> dict[str, Any]:
    """Train a model on labelled pairs and save it as plain Hugging Face files.

    Args:
        rows_train: `premise`, `hypothesis` and `label`, one of `nli.LABELS`.
        rows_held_out: the same, on which its quality is measured.
        output: output directory; it also gets `nli.json`, what is returned.
        config: architecture and training.

    Returns:
        `accuracy` and, by the true label, `by_label`, both on the held-out rows; `held_out`, how
        many these are; and `config`.

    Raises:
        UserError: there are no rows, or a label is unknown.
    """
    config = config or NliConfig()
    targets, held_out = _targets(rows_train), _targets(rows_held_out)
    tokenizer = _tokenizer(rows_train, config)
    torch.manual_seed(config.seed)
    model: Any = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=2 * config.width,
            max_position_embeddings=config.max_tokens,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,
            num_labels=len(LABELS),
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    model.train()
    for indices in _batches(len(rows_train), config):
        batch = [rows_train[index] for index in indices]
        logits = model(**_encode(tokenizer, batch, config)).logits
        loss = functional.cross_entropy(logits, targets[indices])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    found = {
        **_quality(model, tokenizer, rows_held_out, held_out, config),
        "config": asdict(config),
    }
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "nli.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _targets(rows: Sequence[Mapping[str, Any]]) -> Tensor:
    if not rows:
        raise UserError("An NLI model needs statements to train on, and others to test it with.")
    unknown = sorted({str(row["label"]) for row in rows} - set(LABELS))
    if unknown:
        raise UserError(f"Unknown NLI label '{unknown[0]}'; labels are {', '.join(LABELS)}.")
    return torch.tensor([LABELS.index(row["label"]) for row in rows])


def _tokenizer(rows: Sequence[Mapping[str, Any]], config: NliConfig) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole lower-case words and punctuation, as BERT pairs texts."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(
        special_tokens=[_PAD, _UNKNOWN, _CLS, _SEP], show_progress=False
    )
    texts = (str(row[name]) for row in rows for name in ("premise", "hypothesis"))
    tokenizer.train_from_iterator(texts, trainer)
    special = [(name, tokenizer.token_to_id(name)) for name in (_CLS, _SEP)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_CLS} $A {_SEP}",
        pair=f"{_CLS} $A {_SEP} $B:1 {_SEP}:1",
        special_tokens=special,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=_UNKNOWN,
        pad_token=_PAD,
        cls_token=_CLS,
        sep_token=_SEP,
        model_max_length=config.max_tokens,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _encode(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Mapping[str, Any]], config: NliConfig
) -> Any:
    return tokenizer(
        [str(row["premise"]) for row in rows],
        [str(row["hypothesis"]) for row in rows],
        padding=True,
        truncation="longest_first",
        max_length=config.max_tokens,
        return_tensors="pt",
    )


def _rate(step: int, config: NliConfig) -> float:
    """Return the schedule: linear warm-up, then a linear decay."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    return max(0.02, (config.steps - step) / max(1, config.steps - config.warmup_steps))


def _batches(rows: int, config: NliConfig) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(config.seed)
    queue: list[int] = []
    for _ in range(config.steps):
        while len(queue) < config.batch_size:
            queue += torch.randperm(rows, generator=generator).tolist()
        yield queue[: config.batch_size]
        queue = queue[config.batch_size :]


@torch.no_grad()
def _quality(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Mapping[str, Any]],
    targets: Tensor,
    config: NliConfig,
) -> dict[str, Any]:
    """Return the accuracy on held-out rows."""
    guessed = torch.cat(
        [
            model(**_encode(tokenizer, rows[start : start + 256], config)).logits.argmax(dim=-1)
            for start in range(0, len(rows), 256)
        ]
    )
    right = guessed == targets
    return {
        "accuracy": right.float().mean().item(),
        "by_label": {
            label: right[targets == index].float().mean().item()
            for index, label in enumerate(LABELS)
            if bool((targets == index).any())
        },
        "held_out": len(rows),
    }
