"""Natural language inference: whether a premise entails a hypothesis, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sparsepo.errors import UserError, first_line
from tasks.metrics.text.base import FloatArray, device_or_default, package_version
from tasks.metrics.text.encoder import weights_digest

LABELS = ("entailment", "neutral", "contradiction")
"""The order of the probabilities that every model returns."""

SUMMAC_NLI = "tals/albert-xlarge-vitaminc-mnli"
"""SummaC's own model ("vitc"), which the weights of SummaC-Conv were trained with [code]."""

# Models whose configuration does not name their labels, as (entailment, neutral, contradiction):
# from summac's `model_map`.
_LABEL_IDS = {
    SUMMAC_NLI: (0, 2, 1),
    "tals/albert-xlarge-vitaminc": (0, 2, 1),
    "tals/albert-base-vitaminc-mnli": (0, 2, 1),
    "boychaboy/SNLI_roberta-base": (0, 1, 2),
    "boychaboy/SNLI_roberta-large": (0, 1, 2),
    "microsoft/deberta-base-mnli": (2, 1, 0),
    "roberta-large-mnli": (2, 1, 0),
    "ynie/roberta-large-snli_mnli_fever_anli_R1_R2_R3-nli": (0, 1, 2),
}
_MAX_TOKENS = 500
"""Tokens of premise and hypothesis together beyond which the longer one is cut, as in summac."""


class NliModel(Protocol):
    """A model of natural language inference."""

    @property
    def language(self) -> str:
        """``en``, or ``any`` for a multilingual model."""

    def signature(self) -> dict[str, str]:
        """Return what identifies the model."""

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """Return the probabilities of `LABELS`, (pairs, 3), for (premise, hypothesis) pairs."""


class TransformersNli:
    """A sequence classifier of transformers, from a folder or the hub, in float32.

    SummaC itself runs its model in half precision on a GPU; float32 [ours] gives the same values on
    every device.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        batch: int = 128,
        language: str = "en",
    ) -> None:
        """Load a model.

        Args:
            model: a folder or a hub id.
            device: where it runs; a GPU if there is one.
            batch: pairs in a batch.
            language: ``en``, or ``any`` for a multilingual model.

        Raises:
            UserError: it cannot be loaded, or its labels are not those of entailment.
        """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import tasks.metrics.text.nli_model  # noqa: F401  (registers the tiny model's class)

        self.language = language
        self._batch = batch
        self._device = device_or_default(device)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
            self.model: Any = AutoModelForSequenceClassification.from_pretrained(
                model, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"The NLI model {model} cannot be loaded ({first_line(error)}); give a folder or a "
                "hub id that can be reached."
            ) from None
        self.model.eval().to(self._device)
        self._order = label_order(model, self.model.config.id2label)
        folder = Path(model)
        self._identity = f"folder {weights_digest(folder)}" if folder.is_dir() else model
        self._max_tokens = min(_MAX_TOKENS, int(self.model.config.max_position_embeddings))

    def signature(self) -> dict[str, str]:
        """Return the model, its library's version and settings."""
        return {
            "nli": self._identity,
            "transformers": package_version("transformers", "transformers", "NLI"),
            "dtype": "float32",
            "max_tokens": str(self._max_tokens),
        }

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """Return the probabilities of `LABELS`.

        Args:
            pairs: (premise, hypothesis), n; batches are of similar length.

        Returns:
            Probabilities, (n, 3); each row sums to 1.
        """
        import torch

        found = np.empty((len(pairs), len(LABELS)))
        order = sorted(range(len(pairs)), key=lambda i: (sum(map(len, pairs[i])), pairs[i]))
        for start in range(0, len(order), self._batch):
            places = order[start : start + self._batch]
            inputs = self.tokenizer(
                [pairs[i][0] for i in places],
                [pairs[i][1] for i in places],
                padding=True,
                truncation="longest_first",
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                logits = self.model(**inputs).logits.float()
            found[places] = logits.softmax(-1)[:, self._order].cpu().numpy()
        return found


def label_order(model: str, names: Mapping[int, str]) -> list[int]:
    """Return the ids of a classifier's labels in the order of `LABELS`.

    Args:
        model: folder or hub id.
        names: id → name, from the model's configuration.

    Raises:
        UserError: the names are not those of entailment, neutral and contradiction.
    """
    by_name = {str(name).lower(): int(i) for i, name in names.items()}
    if set(by_name) == set(LABELS):
        return [by_name[label] for label in LABELS]
    if model in _LABEL_IDS:
        return list(_LABEL_IDS[model])
    raise UserError(
        f"The labels of {model} are {', '.join(sorted(by_name))}; an NLI model must name them "
        f"{', '.join(LABELS)} in its config.json."
    )
