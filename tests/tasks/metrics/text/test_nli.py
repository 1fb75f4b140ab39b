from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from sparsepo import UserError
from tasks.metrics.text.nli import LABELS, SUMMAC_NLI, TransformersNli, label_order
from tasks.metrics.text.nli_train import NliTrainingConfig, train_nli, train_tokenizer

NAMES = ("Ada", "Bob", "Cy", "Dee")
THINGS = ("cat", "dog", "car", "hat")


def statements(count: int, seed: int) -> list[dict[str, Any]]:
    """Premises of which the first word of a hypothesis decides what follows from them."""
    rng = Random(seed)
    words = {"entailment": "yes", "neutral": "perhaps", "contradiction": "no"}
    rows = []
    for i in range(count):
        label = LABELS[i % 3]
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        rows.append(
            {
                "premise": f"{name} owns a {thing}.",
                "hypothesis": f"{words[label]}, {name} has a {thing}.",
                "label": label,
            }
        )
    return rows


SMALL = NliTrainingConfig(width=16, vocabulary_size=330, epochs=6, batch_size=16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nli") / "model"
    train_nli(statements(300, 0), statements(90, 1), folder, SMALL)
    return folder


def test_training_learns_and_states_its_quality_on_held_out_rows(trained: Path) -> None:
    report = json.loads((trained / "nli.json").read_text())
    assert report["rows"] == {"training": 300, "held_out": 90}
    assert report["accuracy"] > 95.0
    assert set(report["recall"]) == set(LABELS)
    assert report["settings"]["epochs"] == 6
    nli = TransformersNli(str(trained), device="cpu")
    rows = statements(90, 1)
    found = nli.probabilities([(row["premise"], row["hypothesis"]) for row in rows])
    right = [LABELS[best] == row["label"] for best, row in zip(found.argmax(1), rows, strict=True)]
    assert report["accuracy"] == pytest.approx(100.0 * sum(right) / 90, abs=0.01)


def test_training_again_gives_the_same_weights(trained: Path, tmp_path: Path) -> None:
    torch.rand(7)  # what others draw must not matter
    train_nli(statements(300, 0), statements(90, 1), tmp_path, SMALL)
    for name in ("model.safetensors", "tokenizer.json", "nli.json"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_statements_that_cannot_be_learned_from_are_named(tmp_path: Path) -> None:
    rows = statements(30, 0)
    with pytest.raises(UserError, match="Row 2 of the training statements has the label 'maybe'"):
        train_nli([rows[0], {**rows[1], "label": "maybe"}], rows, tmp_path, SMALL)
    with pytest.raises(UserError, match="Row 1 of the held-out statements lacks a premise"):
        train_nli(rows, [{**rows[0], "premise": None}], tmp_path, SMALL)
    with pytest.raises(UserError, match="No held-out statement has the label contradiction"):
        train_nli(rows, rows[:2], tmp_path, SMALL)
    assert not list(tmp_path.iterdir())


def save_model(folder: Path, labels: tuple[str, ...]) -> Path:
    """Save a random classifier whose labels are in the given order."""
    texts = [row[side] for row in statements(60, 0) for side in ("premise", "hypothesis")]
    tokenizer = train_tokenizer(texts, SMALL)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=40, initializer_range=0.5,
        id2label=dict(enumerate(labels)),
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_probabilities_are_in_one_order_whatever_the_models_labels(tmp_path: Path) -> None:
    pairs = [("Ada owns a cat.", "no, Ada has a cat."), ("Bob owns a hat.", "yes, Cy has a dog.")]
    ordered = TransformersNli(str(save_model(tmp_path / "one", LABELS))).probabilities(pairs)
    reverse = tuple(label.upper() for label in reversed(LABELS))
    turned = TransformersNli(str(save_model(tmp_path / "two", reverse))).probabilities(pairs)
    np.testing.assert_allclose(ordered, turned[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(ordered.sum(axis=1), 1.0, atol=1e-6)
    assert np.ptp(ordered) > 0.05


def test_batches_and_order_change_nothing_that_matters(tmp_path: Path) -> None:
    folder = str(save_model(tmp_path, LABELS))
    pairs = [
        (row["premise"] * (i % 3 + 1), row["hypothesis"]) for i, row in enumerate(statements(50, 3))
    ]
    one = TransformersNli(folder, batch=1).probabilities(pairs)
    np.testing.assert_allclose(
        TransformersNli(folder, batch=16).probabilities(pairs), one, atol=1e-5
    )
    turned = TransformersNli(folder).probabilities(pairs[::-1])[::-1]
    np.testing.assert_allclose(turned, one, atol=1e-5)
    assert TransformersNli(folder).probabilities([]).shape == (0, 3)


def test_long_and_empty_texts_are_read(tmp_path: Path) -> None:
    nli = TransformersNli(str(save_model(tmp_path, LABELS)))
    assert nli.signature()["max_tokens"] == "40"
    found = nli.probabilities([("Ada owns a cat. " * 100, "yes"), ("", ""), ("Ada", "no " * 500)])
    assert np.isfinite(found).all()


def test_labels_of_summacs_models_are_known() -> None:
    unnamed = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert label_order(SUMMAC_NLI, unnamed) == [0, 2, 1]
    assert label_order(
        "roberta-large-mnli", {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    ) == [2, 1, 0]
    with pytest.raises(UserError, match="must name them entailment, neutral, contradiction"):
        label_order("some/sentiment-model", {0: "negative", 1: "positive"})


def test_models_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    for model in ("no-such-organisation/no-such-model", str(tmp_path)):
        with pytest.raises(UserError, match="cannot be loaded"):
            TransformersNli(model)


def test_the_signature_changes_with_the_weights(tmp_path: Path) -> None:
    one, other = save_model(tmp_path / "one", LABELS), save_model(tmp_path / "two", LABELS[::-1])
    assert TransformersNli(str(one)).signature() == TransformersNli(str(one)).signature()
    assert TransformersNli(str(one)).signature() != TransformersNli(str(other)).signature()
