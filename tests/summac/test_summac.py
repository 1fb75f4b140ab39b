"""SummaC on the project's transformers: what has to be replaced in it, and that this suffices.

summac pins huggingface-hub below 0.17, so it cannot be a dependency beside transformers 5; the tox
environment `summac` installs it without its own dependencies and runs these tests.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

pytestmark = pytest.mark.summac

# Only absence is a reason to skip: a summac that is there and cannot be imported is a failure.
if importlib.util.find_spec("summac") is None:
    pytest.skip("runs in the tox environment summac", allow_module_level=True)
summac: Any = importlib.import_module("summac.model_summac")

DOCUMENT = "the cat sat on the mat while the dog slept"
SUMMARY = "the cat sat"


@pytest.fixture(scope="module")
def entailment_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random three-class model of sentence pairs, saved where SummaC can load it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(DOCUMENT.split()))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3, initializer_range=1.0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("nli")
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class _PairTokenizer:
    """The tokenizer method that SummaC calls, which transformers 5 no longer has."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def batch_encode_plus(
        self, pairs: list[tuple[str, str]], truncation_strategy: str, **options: Any
    ) -> Any:
        first, second = zip(*pairs, strict=True)
        return self.tokenizer(
            list(first), list(second), **{**options, "truncation": truncation_strategy}
        )


def _load_nli(self: Any) -> None:
    self.tokenizer = _PairTokenizer(AutoTokenizer.from_pretrained(self.model_card))
    self.model = AutoModelForSequenceClassification.from_pretrained(self.model_card).eval()


@pytest.fixture
def imager(entailment_model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    card = {"model_card": str(entailment_model), "entailment_idx": 2, "contradiction_idx": 0}
    monkeypatch.setitem(summac.model_map, "local", card)
    monkeypatch.setattr(summac.SummaCImager, "load_nli", _load_nli)
    return summac.SummaCImager(
        model_name="local", granularity="document", device="cpu", use_cache=False
    )


def test_an_image_holds_the_models_probabilities(imager: Any, entailment_model: Path) -> None:
    image = imager.build_image(DOCUMENT, SUMMARY)
    assert image.shape == (3, 1, 1)
    tokenizer = AutoTokenizer.from_pretrained(entailment_model)
    model = AutoModelForSequenceClassification.from_pretrained(entailment_model).eval()
    with torch.no_grad():
        logits = model(**tokenizer(DOCUMENT, SUMMARY, return_tensors="pt")).logits[0]
    contradiction, neutral, entailment = logits.softmax(-1).tolist()
    assert image[:, 0, 0].tolist() == pytest.approx([entailment, contradiction, neutral], abs=1e-6)
    assert len({round(value, 3) for value in (entailment, contradiction, neutral)}) > 1


def test_the_zero_shot_score_is_entailment_minus_contradiction(
    imager: Any, entailment_model: Path
) -> None:
    scorer = summac.SummaCZS(model_name="local", granularity="document", device="cpu")
    image = imager.build_image(DOCUMENT, SUMMARY)
    (score,) = scorer.score([DOCUMENT], [SUMMARY])["scores"]
    assert score == pytest.approx(image[0, 0, 0] - image[1, 0, 0], abs=1e-6)
