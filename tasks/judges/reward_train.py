"""Trains a reward model on preference pairs, for a judge that costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sparsepo.errors import DivergedError, UserError
from sparsepo.types import PreferencePair
from tasks.judges.reward_text import Ids, encode_response, without_beginning
from tasks.judges.settings import RewardTraining

Encoded = tuple[Ids, Ids]
"""Token ids of the chosen and of the rejected response, with the prompt."""


@dataclass(frozen=True)
class RewardReport:
    """What a reward model was trained on, and how well it orders other pairs."""

    pairs: int
    truncated: int
    """Those of them whose prompt lost its beginning to fit the context."""
    too_long: int
    """Pairs that were left out, because not even a response fits."""
    held_out: int
    """Held-out pairs that fit."""
    accuracy: float | None
    """Share of these whose chosen response has the higher reward; None without any."""


def train_reward_model(
    start: Path | str,
    pairs: Sequence[PreferencePair],
    held_out: Sequence[PreferencePair],
    folder: Path,
    settings: RewardTraining,
    *,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> RewardReport:
    """Train a language model with a score instead of its head, and save it with its tokenizer.

    The loss is Bradley and Terry's, ``−log σ(r(chosen) − r(rejected))``, as of reward models since
    Ouyang et al. (2022); the learning rate rises for a tenth of the steps and falls linearly.

    Args:
        start: a causal language model.
        pairs: for training.
        held_out: for the report.
        folder: where the model is saved.
        settings: rate, epochs, batch.
        seed: of the new head and the order of pairs.
        device: such as "cpu".
        progress: called with (steps so far, all steps).

    Raises:
        DivergedError: a loss is not finite.
        UserError: no pair fits the model's context.
    """
    torch.manual_seed(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(start)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model: Any = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.to(device)
    context = getattr(model.config, "max_position_embeddings", None)
    encoded = [_encode(tokenizer, pair) for pair in pairs]
    cut = [without_beginning(*both, context) for both in encoded]
    fitting = [both for both in cut if _fits(both, context)]
    if not fitting:
        raise UserError(
            f"No preference pair fits the judge's context of {context} tokens; train the reward "
            "model from one with a longer context."
        )
    steps = settings.epochs * -(-len(fitting) // settings.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    warmup = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    model.train()
    for step, batch in enumerate(_batches(fitting, settings, seed)):
        rewards = _rewards(model, [ids for both in batch for ids in both])
        loss = -logsigmoid(rewards[0::2] - rewards[1::2]).mean()
        if not bool(loss.isfinite()):
            raise DivergedError(
                "The reward model's loss is not finite; lower judge.train.learning_rate."
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    others = [without_beginning(*_encode(tokenizer, pair), context) for pair in held_out]
    right = _right(model, [both for both in others if _fits(both, context)], settings.batch_size)
    return RewardReport(
        pairs=len(fitting),
        truncated=sum(a != b for a, b in zip(encoded, cut, strict=True)),
        too_long=len(encoded) - len(fitting),
        held_out=len(right),
        accuracy=sum(right) / len(right) if right else None,
    )


def _encode(tokenizer: Any, pair: PreferencePair) -> Encoded:
    prompt: Any = pair.prompt if isinstance(pair.prompt, str) else list(pair.prompt)
    chosen: Any = pair.chosen
    rejected: Any = pair.rejected
    return encode_response(tokenizer, prompt, chosen), encode_response(tokenizer, prompt, rejected)


def _fits(both: Encoded, context: int | None) -> bool:
    return context is None or max(map(len, both)) <= context


def _batches(
    encoded: Sequence[Encoded], settings: RewardTraining, seed: int
) -> Iterator[list[Encoded]]:
    random = Random(seed)
    for _ in range(settings.epochs):
        order = random.sample(range(len(encoded)), len(encoded))
        for start in range(0, len(order), settings.batch_size):
            yield [encoded[i] for i in order[start : start + settings.batch_size]]


def _rewards(model: Any, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the reward of each text, (texts,)."""
    width = max(map(len, texts))
    ids = torch.full((len(texts), width), model.config.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, own in enumerate(texts):
        ids[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
    output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    rewards: torch.Tensor = output.logits[:, 0].float()
    return rewards


def _right(model: Any, encoded: Sequence[Encoded], batch_size: int) -> list[bool]:
    found: list[bool] = []
    with torch.no_grad():
        for start in range(0, len(encoded), batch_size):
            batch = encoded[start : start + batch_size]
            rewards = _rewards(model, [ids for both in batch for ids in both])
            found += (rewards[0::2] > rewards[1::2]).tolist()
    return found
