"""SummaC's package on the project's transformers, and the project's own SummaC beside it.

summac pins huggingface-hub below 0.17, so it cannot be a dependency beside transformers 5; the tox
environment `summac` installs it without its own dependencies, writes tests/golden/summac.json with
it and runs these tests.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
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

from tasks.metrics.text.nli import TransformersNli
from tasks.metrics.text.summac import images, load_conv_weights, split_sentences, zero_shot
from tests.summac.package import patched, scores
from tests.summac.stand_in import DOCUMENT, TEXTS, digest, write_conv_weights
from tests.summac.write_fixtures import GOLDEN

pytestmark = pytest.mark.summac

# Only absence is a reason to skip: a summac that is there and cannot be imported is a failure.
if importlib.util.find_spec("summac") is None:
    pytest.skip("runs in the tox environment summac", allow_module_level=True)

summac: Any = patched()


@pytest.fixture(scope="module")
def entailment_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random three-class model of sentence pairs, saved where SummaC can load it."""
    text = " ".join(part for pair in TEXTS for part in pair)
    core = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    words = [word for word, _ in core.pre_tokenizer.pre_tokenize_str(text)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(words))]
    core.model = models.WordLevel({word: i for i, word in enumerate(vocabulary)}, "[UNK]")
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3, initializer_range=0.4,
        id2label={0: "contradiction", 1: "neutral", 2: "entailment"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("nli")
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {"model_card": str(folder), "entailment_idx": 2, "contradiction_idx": 0}
    summac.model_map["local"] = card
    return folder


@pytest.fixture(scope="module")
def conv_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("conv") / "conv.bin"
    write_conv_weights(file)
    return file


def test_an_image_holds_the_models_probabilities(entailment_model: Path) -> None:
    imager = summac.SummaCImager(
        model_name="local", granularity="document", device="cpu", use_cache=False
    )
    summary = TEXTS[0][1]
    image = imager.build_image(DOCUMENT, summary)
    assert image.shape == (3, 1, 1)
    tokenizer = AutoTokenizer.from_pretrained(entailment_model)
    model = AutoModelForSequenceClassification.from_pretrained(entailment_model).eval()
    with torch.no_grad():
        logits = model(**tokenizer(DOCUMENT, summary, return_tensors="pt")).logits[0]
    contradiction, neutral, entailment = logits.softmax(-1).tolist()
    assert image[:, 0, 0].tolist() == pytest.approx([entailment, contradiction, neutral], abs=1e-6)
    assert len({round(value, 3) for value in (entailment, contradiction, neutral)}) > 1


def test_sentences_are_split_as_in_the_package() -> None:
    imager = summac.SummaCImager(model_name="mnli", granularity="sentence", device="cpu")
    for text in {text for pair in TEXTS for text in pair}:
        assert split_sentences(text) == imager.split_sentences(text)


def test_own_scores_equal_the_packages_with_a_real_model(
    entailment_model: Path, conv_weights: Path
) -> None:
    expected = scores(summac, "local", TEXTS, str(conv_weights))
    chunks = [(split_sentences(one), split_sentences(other)) for one, other in TEXTS]
    weights = load_conv_weights(conv_weights)
    found = images(TransformersNli(str(entailment_model), device="cpu"), chunks)
    assert len({round(one["conv"], 4) for one in expected}) > 5
    for image, one in zip(found, expected, strict=True):
        assert zero_shot(image) == pytest.approx(one["zs"], abs=1e-6)
        assert zero_shot(image, False) == pytest.approx(one["zs_entailment"], abs=1e-6)
        assert weights.score(image) == pytest.approx(one["conv"], abs=1e-6)


def test_the_fixtures_are_what_the_package_computes(conv_weights: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    expected = scores(summac, "stand-in", TEXTS, str(conv_weights))
    assert [row[0] for row in golden["own"]] == [digest(*pair) for pair in TEXTS]
    values = np.array([list(one.values()) for one in expected])
    np.testing.assert_allclose([row[1:] for row in golden["own"]], values, atol=1e-8)
