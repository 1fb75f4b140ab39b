"""Train a small NLI model from scratch, on statements whose labels are known.

No package carries an entailment model that may be passed on. The profile `tiny` therefore trains
one on statements that its embedded world writes, and measures it on others. It knows that world's
sentences and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsepo.errors import UserError
from tasks.metrics.text.nli import LABELS, TransformersNli

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REPORT_FILE = "nli.json"
"""Written beside the weights: rows, settings and quality on held-out rows."""

Progress = Callable[[int, int, float], None]
"""Called with (step, steps, loss in nats)."""


@dataclass(frozen=True, slots=True)
class NliTrainingConfig:
    """Architecture and training; all values are ours."""

    width: int = 64
    vocabulary_size: int = 2000
    max_tokens: int = 128
    """Longest premise and hypothesis together; longer ones are cut."""
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    gradient_clipping: float = 1.0
    seed: int = 0


def train_nli(
    train: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    folder: Path,
    config: NliTrainingConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train an `AlignmentModel` and save it in the Hugging Face format.

    Args:
        train: rows with `premise`, `hypothesis` and `label`, one of `nli.LABELS`.
        held_out: the same, for measuring.
        folder: where model, tokenizer and `nli.json` are written.
        config: architecture and training.
        progress: called after each step.

    Returns:
        The content of `nli.json`: rows, settings, accuracy, and recall of each label, in percent.

    Raises:
        UserError: a row lacks a text or has another label, or a label has no row.
    """
    import torch

    from tasks.metrics.text.nli_model import AlignmentConfig, AlignmentModel

    config = config or NliTrainingConfig()
    for name, rows in (("training", train), ("held-out", held_out)):
        _check(rows, name)
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer(
        [str(row[side]) for row in train for side in ("premise", "hypothesis")], config
    )
    model = AlignmentModel(
        AlignmentConfig(
            vocab_size=len(tokenizer),
            width=config.width,
            max_position_embeddings=config.max_tokens,
            pad_token_id=tokenizer.pad_token_id,
            special_ids=tuple(tokenizer.all_special_ids),
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
        )
    )
    _fit(model, tokenizer, train, config, progress)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    report = {
        "rows": {"training": len(train), "held_out": len(held_out)},
        **measure(TransformersNli(str(folder)), held_out),
        "settings": asdict(config),
    }
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def measure(nli: TransformersNli, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return accuracy and recall of each label on rows, in percent.

    Args:
        nli: the model.
        rows: with `premise`, `hypothesis` and `label`.
    """
    found = nli.probabilities([(str(row["premise"]), str(row["hypothesis"])) for row in rows])
    right = [
        LABELS[best] == row["label"] for best, row in zip(found.argmax(axis=1), rows, strict=True)
    ]
    recall = {}
    for label in LABELS:
        own = [one for one, row in zip(right, rows, strict=True) if row["label"] == label]
        recall[label] = round(100.0 * sum(own) / len(own), 2)
    return {"accuracy": round(100.0 * sum(right) / len(right), 2), "recall": recall}


def train_tokenizer(texts: Sequence[str], config: NliTrainingConfig) -> PreTrainedTokenizerFast:
    """Train a lower-casing byte-level BPE tokenizer for pairs of sentences.

    WordPiece, which BERT has, depends on the order of a hash table: not every run gives equal ids.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    core = Tokenizer(models.BPE(unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=config.vocabulary_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=config.max_tokens,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _fit(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Mapping[str, Any]],
    config: NliTrainingConfig,
    progress: Progress | None,
) -> None:
    import torch

    generator = torch.Generator().manual_seed(config.seed)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    steps = config.epochs * math.ceil(len(rows) / config.batch_size)
    warmup = max(1, round(config.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    model.train()
    step = 0
    for _ in range(config.epochs):
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(rows), config.batch_size):
            batch = [rows[i] for i in order[start : start + config.batch_size]]
            inputs = tokenizer(
                [str(row["premise"]) for row in batch],
                [str(row["hypothesis"]) for row in batch],
                padding=True,
                truncation="longest_first",
                max_length=config.max_tokens,
                return_tensors="pt",
            )
            labels = torch.tensor([LABELS.index(row["label"]) for row in batch])
            loss = model(**inputs, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
            optimizer.step()
            schedule.step()
            step += 1
            if progress is not None:
                progress(step, steps, loss.item())
    model.eval()


def _check(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    for number, row in enumerate(rows, start=1):
        if not all(isinstance(row.get(side), str) for side in ("premise", "hypothesis")):
            raise UserError(
                f"Row {number} of the {name} statements lacks a premise or a hypothesis; each "
                "needs both, as text."
            )
        if row.get("label") not in LABELS:
            raise UserError(
                f"Row {number} of the {name} statements has the label {row.get('label')!r}; use "
                f"one of {', '.join(LABELS)}."
            )
    for label in LABELS:
        if not any(row["label"] == label for row in rows):
            raise UserError(f"No {name} statement has the label {label}; add some.")
