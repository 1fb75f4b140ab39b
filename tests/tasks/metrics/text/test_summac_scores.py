from __future__ import annotations

import json
import os
from pathlib import Path

import nltk
import numpy as np
import pytest
import torch
from nltk import tokenize

from sparsepo import UserError
from tasks.metrics import sentences
from tasks.metrics.text.entailment import Edna, SummaC, edna
from tasks.metrics.text.summac import (
    images,
    load_conv_weights,
    published_conv_weights,
    split_sentences,
    zero_shot,
)
from tests.summac.stand_in import (
    DOCUMENT,
    TEXTS,
    StandIn,
    digest,
    probabilities,
    real_texts,
    write_conv_weights,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "summac.json").read_text())


@pytest.fixture
def conv_weights(tmp_path: Path) -> Path:
    file = tmp_path / "conv.bin"
    write_conv_weights(file)
    return file


@pytest.fixture
def splitter_of_the_fixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in splitter, which made the fixtures, also where nltk's own is installed."""
    assert GOLDEN["sentences"] == "punkt with built-in abbreviations"
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(sentences, "_active", None)
    tokenize._get_punkt_tokenizer.cache_clear()
    assert sentences.ensure_sentence_splitter() == GOLDEN["sentences"]


def compare(rows: list[list[object]], texts: list[tuple[str, str]], weights: Path) -> None:
    assert [row[0] for row in rows] == [digest(*pair) for pair in texts]
    chunks = [(split_sentences(one), split_sentences(other)) for one, other in texts]
    conv = load_conv_weights(weights)
    found = [
        [zero_shot(image), zero_shot(image, contradiction=False), conv.score(image)]
        for image in images(StandIn(), chunks)
    ]
    np.testing.assert_allclose(found, [row[1:] for row in rows], atol=1e-6, rtol=0)
    assert np.ptp(np.array(found), axis=0).min() > 0.3


@pytest.mark.usefixtures("splitter_of_the_fixtures")
def test_scores_are_those_of_the_package(conv_weights: Path) -> None:
    assert GOLDEN["columns"] == ["text", "zs", "zs_entailment", "conv"]
    compare(GOLDEN["own"], TEXTS, conv_weights)


@pytest.mark.usefixtures("splitter_of_the_fixtures")
def test_scores_of_real_summaries_are_those_of_the_package(conv_weights: Path) -> None:
    folder = Path(os.environ.get("SPARSEPO_REAL_DATA", "../shared/data"))
    if not (folder / "tldr_prompts.jsonl.gz").is_file():
        pytest.skip("needs the TL;DR files; SPARSEPO_REAL_DATA names their folder")
    assert len(GOLDEN["tldr"]) == 300
    compare(GOLDEN["tldr"], real_texts(folder), conv_weights)


def test_an_image_is_the_models_answer_to_every_pair_of_sentences() -> None:
    document, summary = ["first premise", "second premise"], ["one hypothesis", "two", "three"]
    (image,) = images(StandIn(), [(document, summary)])
    assert image.shape == (3, 2, 3)
    entailment, neutral, contradiction = probabilities([("second premise", "three")])[0].tolist()
    assert image[:, 1, 2].tolist() == pytest.approx([entailment, contradiction, neutral])


def test_each_pair_of_sentences_is_asked_once() -> None:
    asked: list[tuple[str, str]] = []

    class Counting(StandIn):
        def probabilities(self, pairs):  # type: ignore[no-untyped-def]
            asked.extend(pairs)
            return super().probabilities(pairs)

    images(Counting(), [(["a", "b"], ["x"]), (["a", "b"], ["x", "y"])])
    assert sorted(asked) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_texts_without_a_sentence_have_no_value(conv_weights: Path) -> None:
    documents = [DOCUMENT, DOCUMENT, "Ok. No.", DOCUMENT]
    candidates = ["Too short.", "", "A summary of nothing at all.", "Uncle owns a bakery in Leeds."]
    for metric in (SummaC(StandIn(), conv_weights=conv_weights), SummaC(StandIn(), "zs")):
        found = metric.score(candidates, documents=documents)
        assert [value is None for value in found.values] == [True, True, True, False]
        assert sum(found.missing.values()) == 3
        assert "no sentence of more than 10 characters" in next(iter(found.missing))


def test_another_script_and_nan_have_no_value() -> None:
    class Broken(StandIn):
        def probabilities(self, pairs):  # type: ignore[no-untyped-def]
            return np.full((len(pairs), 3), np.nan)

    found = SummaC(StandIn(), "zs").score(["Моя сестра купила пекарню."], documents=[DOCUMENT])
    assert found.values == [None]
    assert list(found.missing) == ["the text is in a script that the encoder does not know"]
    found = SummaC(Broken(), "zs").score(["Uncle owns a bakery."], documents=[DOCUMENT])
    assert found.values == [None]
    assert list(found.missing) == ["the NLI model's answer is not a number"]


def test_edna_is_the_harmonic_mean_of_faithfulness_and_diversity() -> None:
    assert edna([0.8, 0.6], [0.5, 0.3]) == pytest.approx(2 * 0.7 * 0.6 / 1.3)
    assert edna([0.0, 0.0], [1.0, 1.0]) == 0.0
    assert edna([0.5, 0.5], [1.0, 1.0]) == 0.0
    assert edna([0.5, None], [1.0, 1.0]) is None


def test_edna_asks_for_the_document_and_every_ordered_pair_of_samples() -> None:
    entailment = SummaC(StandIn(), "zs", contradiction=False)
    samples = ["Uncle owns a bakery.", "Ruth owns a bakery.", "The oven broke in June."]
    (value,) = Edna(entailment).score([samples], documents=[DOCUMENT]).values
    of_document = entailment.pairs([(DOCUMENT, sample) for sample in samples])
    between = [
        entailment.pairs([(one, other)])[0] for one in samples for other in samples if one != other
    ]
    assert value == pytest.approx(edna(of_document, between), abs=1e-12)
    assert entailment.cache.computed == 3 + 6


def test_edna_leaves_out_what_cannot_be_read() -> None:
    metric = Edna(SummaC(StandIn(), "zs", contradiction=False))
    groups = [["Uncle owns a bakery.", "", "It makes a profit."], ["Uncle owns a bakery.", ""]]
    with_gap, alone = metric.score(groups, documents=[DOCUMENT] * 2).values
    (without,) = metric.score([[groups[0][0], groups[0][2]]], documents=[DOCUMENT]).values
    assert with_gap == without
    assert alone is None


def test_equal_samples_count_as_pairs_too() -> None:
    metric = Edna(SummaC(StandIn(), "zs", contradiction=False))
    sample = "Uncle owns a bakery in Leeds."
    (value,) = metric.score([[sample] * 5], documents=[DOCUMENT]).values
    (given,) = metric.entailment.pairs([(DOCUMENT, sample)])
    (own,) = metric.entailment.pairs([(sample, sample)])
    assert value == pytest.approx(edna([given], [own]))


def test_edna_refuses_an_entailment_that_can_be_negative() -> None:
    with pytest.raises(ValueError, match="never negative"):
        Edna(SummaC(StandIn(), "zs"))


def test_files_that_are_no_weights_of_summac_conv(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights of SummaC-Conv at"):
        load_conv_weights(tmp_path / "missing.bin")
    (tmp_path / "text.bin").write_text("<html>")
    with pytest.raises(UserError, match="not a checkpoint of SummaC-Conv"):
        load_conv_weights(tmp_path / "text.bin")
    torch.save({"mlp.weight": torch.zeros(1, 50)}, tmp_path / "other.bin")
    with pytest.raises(UserError, match="with one NLI model, the label e"):
        load_conv_weights(tmp_path / "other.bin")


def test_published_weights_that_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        assert options["hash_prefix"]
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"cannot be downloaded \(no route to host\); save https"):
        published_conv_weights(tmp_path)
    write_conv_weights(tmp_path / "summac_conv_vitc_sent_perc_e.bin")
    assert published_conv_weights(tmp_path).is_file()
