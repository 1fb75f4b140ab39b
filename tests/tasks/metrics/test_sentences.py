from __future__ import annotations

import shutil
from pathlib import Path

import nltk
import pytest
from nltk.tokenize.punkt import PunktTokenizer

from tasks.metrics import sentences


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PunktTokenizer:
    """The splitter of a machine on which nltk finds nothing."""
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(sentences, "_active", None)
    assert sentences.ensure_sentence_splitter() == "punkt with built-in abbreviations"
    return PunktTokenizer("english")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three? Four.", 4),
        ("Dr. Smith met Mrs. Jones at 3.30 p.m. on Monday. They talked.", 2),
        ("It costs 3.50 dollars, i.e. little. Buy it.", 2),
        ("No full stop", 1),
        ("", 0),
        ("First line.\nSecond line.", 2),
    ],
)
def test_built_in_splitter(built_in: PunktTokenizer, text: str, count: int) -> None:
    assert len(built_in.tokenize(text)) == count


def test_installed_punkt_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sentences.BUILT_IN, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(sentences, "_active", None)
    assert sentences.ensure_sentence_splitter() == "punkt_tab"
    assert nltk.data.path == [str(tmp_path)]


def test_ifeval_uses_it_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("nltk wanted to download")

    monkeypatch.setattr(nltk, "download", refuse)
    sentences.ensure_sentence_splitter()
    from lm_eval.tasks.ifeval import instructions_util

    instructions_util.download_nltk_resources()
    assert instructions_util.count_sentences("One sentence. Mr. Two follows.") == 2
