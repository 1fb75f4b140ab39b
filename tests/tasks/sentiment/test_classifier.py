"""A reward that is trained on labelled texts, and measured on held-out ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from sparsepo.errors import UserError
from tasks.sentiment.classifier import Classifier, SentenceEncoder, TrainedReward
from tasks.sentiment.classifier_training import fit_classifier

GOOD = ("wonderful", "moving", "superb", "delightful")
BAD = ("dreadful", "dull", "clumsy", "tedious")


def write_sentences(file: Path, count: int, truthful: bool = True) -> Path:
    """Write labelled sentences; those that are not truthful have labels drawn by chance."""
    draw = random.Random(0)
    rows = []
    for index in range(count):
        label = index % 2
        word = draw.choice(GOOD if label else BAD)
        text = f"a {word} film about {draw.choice(('love', 'war', 'trains'))}, number {index}"
        rows.append({"text": text, "label": label if truthful else draw.randint(0, 1)})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


class Words:
    """An encoder for tests: a text's vector tells which of the words it has."""

    identity = "words"

    def __call__(self, texts: list[str]) -> np.ndarray:
        found = [[float(word in text) for word in (*GOOD, *BAD)] for text in texts]
        return np.array(found, dtype=np.float32)


def test_what_was_learned_is_measured_on_texts_that_were_not(tmp_path: Path) -> None:
    words: SentenceEncoder = Words()  # type: ignore[assignment]
    classifier, found = fit_classifier(write_sentences(tmp_path / "s.jsonl", 200), words)
    assert found.train + found.test == 200
    assert 20 < found.test < 70
    assert found.accuracy == found.auroc == 1.0
    scores = classifier.positive(words(["a superb film", "a dull film"]))
    assert scores[0] > 0.8 > 0.2 > scores[1]
    _, chance = fit_classifier(write_sentences(tmp_path / "r.jsonl", 400, truthful=False), words)
    assert 0.25 < chance.accuracy < 0.75


def test_a_classifier_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    made = Classifier((0.1, -1 / 3), 0.7, "words")
    made.save(tmp_path / "c.json")
    assert Classifier.load(tmp_path / "c.json") == made


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": f"t {i}"} for i in range(60)], "has 0 train texts with label 0"),
        ([{"text": f"t {i}", "label": 1} for i in range(60)], "has 0 train texts with label 0"),
        ([{"text": f"t {i}", "label": i % 2} for i in range(30)], "at least 20 are needed; give"),
    ],
    ids=["unlabelled", "one class", "few"],
)
def test_too_few_labels_are_named(rows: list[dict[str, object]], said: str, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=said):
        fit_classifier(file, Words())  # type: ignore[arg-type]


@pytest.mark.slow
def test_vectors_depend_on_the_text_alone_and_rewards_on_its_meaning(tmp_path: Path) -> None:
    encode = SentenceEncoder(batch_size=2, device="cpu")
    texts = ["a fine film", "a film that goes on and on, and then on", "no", "a fine film"]
    vectors = encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(vectors, SentenceEncoder(8, "cpu")(texts), atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-5)
    classifier, found = fit_classifier(write_sentences(tmp_path / "s.jsonl", 160), encode)
    assert found.accuracy > 0.9
    good, bad = TrainedReward(classifier, device="cpu")(["it is lovely", "it is awful and boring"])
    assert good > 0.5 > bad
