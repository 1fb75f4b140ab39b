"""The package summac on transformers 5: what has to be replaced in it."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.summac.stand_in import probabilities

STAND_IN = {"model_card": "stand-in", "entailment_idx": 0, "contradiction_idx": 2}


class PairTokenizer:
    """The tokenizer method that SummaC calls, which transformers 5 no longer has."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def batch_encode_plus(
        self, pairs: list[tuple[str, str]], truncation_strategy: str, **options: Any
    ) -> Any:
        # With truncation=True, transformers 4 ignored the old name: the longer text is cut.
        first, second = zip(*pairs, strict=True)
        return self.tokenizer(list(first), list(second), **options)


class _StandInTokenizer:
    def batch_encode_plus(self, pairs: list[tuple[str, str]], **options: Any) -> Any:
        return {"logits": probabilities(pairs).log()}


def load_nli(self: Any) -> None:
    """Replace `SummaCImager.load_nli`."""
    if self.model_card == STAND_IN["model_card"]:
        self.tokenizer = _StandInTokenizer()
        self.model = lambda logits: {"logits": logits}
        return
    self.tokenizer = PairTokenizer(AutoTokenizer.from_pretrained(self.model_card))
    self.model = AutoModelForSequenceClassification.from_pretrained(
        self.model_card, dtype=torch.float32
    ).eval()


def patched() -> Any:
    """Return summac's module with the stand-in among its models."""
    module: Any = importlib.import_module("summac.model_summac")
    module.model_map["stand-in"] = STAND_IN
    module.SummaCImager.load_nli = load_nli
    return module


def scores(
    module: Any, model: str, texts: list[tuple[str, str]], conv_weights: str
) -> list[dict[str, float]]:
    """Return the package's scores of documents and summaries with one of its models."""
    documents, summaries = [one for one, _ in texts], [other for _, other in texts]
    options = {"granularity": "sentence", "device": "cpu"}
    found = {
        "zs": module.SummaCZS(model_name=model, **options),
        "zs_entailment": module.SummaCZS(model_name=model, use_con=False, **options),
        "conv": module.SummaCConv(
            models=[model], bins="percentile", nli_labels="e", start_file=conv_weights,
            agg="mean", **options,
        ),
    }  # fmt: skip
    columns = {
        name: [float(value) for value in scorer.score(documents, summaries)["scores"]]
        for name, scorer in found.items()
    }
    return [{name: column[i] for name, column in columns.items()} for i in range(len(texts))]
