"""The sentiment stages on their own: labels, rankings, scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.domains.common.work.files import write_pairs
from harness.domains.sentiment.render.ranking import _draw, ranking_files
from harness.domains.sentiment.work.corpus import make_corpus
from harness.domains.sentiment.work.labels import label_pairs
from harness.domains.sentiment.work.rankings import rank_baselines, rank_tokens
from harness.domains.sentiment.work.ready_pairs import read_pairs
from harness.graph.stages import StageContext
from sparsepo.types import PreferencePair
from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import build_model, train_tokenizer

PAIRS = [
    PreferencePair("test:0", "The plot was", " superb.", " long and dull."),
    PreferencePair("test:1", "I saw", " a plain film.", " a very bad film."),
    # Sorted as text, this one would stand before the second.
    PreferencePair("test:10", "It was", " not filmed in Rome.", " not good."),
]


def context(work: Path, config: dict[str, Any], **inputs: Path) -> StageContext:
    work.mkdir()
    return StageContext("a stage", config, inputs, {}, work, lambda *told: None, 1)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The labels of PAIRS, under a random model."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "test"):
        write_pairs(PAIRS, folder / f"{split}.jsonl")
    texts = [f"{p.prompt}{r}" for p in PAIRS for r in (p.chosen, p.rejected)]
    tokenizer = train_tokenizer(texts * 20, 330, 48)
    config = BaseModelConfig(architecture="gpt2", layers=1, width=32, heads=2, context=48)
    model = tmp_path / "start"
    build_model(config, tokenizer).save_pretrained(model / "model")
    tokenizer.save_pretrained(model / "model")
    values = {
        "max_length": 48,
        "max_prompt_length": 16,
        "pairs": 9,
        "device": "cpu",
        "model": None,
    }
    label_pairs(context(tmp_path / "labels", values, pairs=folder, model=model))
    return tmp_path / "labels"


def test_labels_stand_in_the_order_of_the_pairs(labels: Path) -> None:
    found = json.loads((labels / "labels.json").read_text())
    responses = found["responses"]
    assert [one["pair_id"] for one in responses] == [p.pair_id for p in PAIRS for _ in range(2)]
    # How many tokens decide: superb | dull | none | very, bad | none | not, good.
    assert [sum(one["labels"]) for one in responses] == [1, 1, 0, 2, 0, 2]
    for one in responses:
        assert len(one["expected"]) == len(one["labels"])
        assert all(0 <= share <= 1 for share in one["expected"])
        # The end of the sequence decides nothing.
        assert not one["labels"][-1]
    assert found["deciding_tokens"] == 6


def test_a_perfect_mask_and_one_that_belongs_to_other_tokens(labels: Path, tmp_path: Path) -> None:
    truth = [one["labels"] for one in json.loads((labels / "labels.json").read_text())["responses"]]
    run = tmp_path / "run"
    run.mkdir()
    flat = np.concatenate(truth).astype(np.float32)
    # A large negative token reward decides as much as a large positive one.
    values = {"0/reward_mask": flat, "8/log_ratios": -flat, "8/kl_mask": 1 - flat}
    np.savez(run / "tokens.npz", allow_pickle=False, lengths=[len(one) for one in truth], **values)
    config = {"replicates": 20, "seed": 0}
    rank_tokens(context(tmp_path / "ranked", config, run=run, labels=labels))
    with np.load(tmp_path / "ranked" / "rankings.npz") as found:
        assert set(found.files) == set(values)
        assert found["0/reward_mask"].shape == (2, 21)
        assert found["0/reward_mask"][:, 0] == pytest.approx([1, 1])
        assert found["8/log_ratios"][:, 0] == pytest.approx([1, 1])
        assert found["8/kl_mask"][0, 0] == 0
    rank_baselines(context(tmp_path / "baselines", config, labels=labels))
    with np.load(tmp_path / "baselines" / "rankings.npz") as found:
        assert found["counts"].tolist() == [6, flat.size, 6]
        assert 0.2 < found["random"][0, 0] < 0.8

    lengths = [len(one) for one in truth]
    lengths[0], lengths[1] = lengths[0] + 1, lengths[1] - 1
    np.savez(run / "tokens.npz", allow_pickle=False, lengths=lengths, **values)
    with pytest.raises(ValueError, match="not those that have labels"):
        rank_tokens(context(tmp_path / "again", config, run=run, labels=labels))


def test_ready_made_pairs_give_pairs_prompts_and_a_corpus(tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Film {i} was", "chosen": {"text": "good"}, "rejected": {"text": "bad"}}
        for i in range(60)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"source": None, "train_prompts": 20, "test_prompts": 5, "test_pairs": 4}
    work = tmp_path / "read"
    work.mkdir()
    read_pairs(StageContext("a", config, {}, {"pairs": source}, work, lambda *t: None, 1))
    report = json.loads((work / "report.json").read_text())
    assert (report["train"]["used"], report["test"]["used"]) == (20, 4)
    assert str(tmp_path) not in json.dumps(report)
    prompts = json.loads((work / "prompts.json").read_text())
    assert len(prompts) == 5
    train = (work / "train.jsonl").read_text()
    assert not any(json.dumps(prompt) in train for prompt in prompts)

    reviews = tmp_path / "reviews"
    reviews.mkdir()
    texts = [f"review {i}" for i in range(7)]
    (reviews / "train.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    make_corpus(context(tmp_path / "corpus", {}, pairs=work, reviews=reviews))
    corpus = (tmp_path / "corpus" / "corpus.jsonl").read_text().splitlines()
    written = [json.loads(line)["text"] for line in corpus]
    assert len(written) == 7 + 2 * 20
    assert [text for text in written if text.startswith("review")] == texts
    assert written[0].startswith("Film")
    assert written[-1].startswith(("Film", "review"))


def ranking(betas: tuple[float, ...], scores: tuple[str, ...]) -> dict[str, Any]:
    def entry(score: str, beta: float | None, step: int, mean: float) -> dict[str, Any]:
        value = {"mean": mean, "ci95": [mean - 2, mean + 2], "n": 9, "seeds": 1}
        both = {"auroc": value, "average_precision": value}
        return {"score": score, "beta": beta, "step": step, **both}

    entries = [entry("random", None, -1, 50.0), entry("expected", None, -1, 90.0)]
    entries += [
        entry(score, beta, step, 50 + step + beta)
        for score in scores
        for beta in betas
        for step in (0, 8, 16)
    ]
    return {"id": "figure3", "profile": "tiny", "ranking": entries}


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([("reward_mask", "kl_mask", "log_ratios"), ("reward_mask", "log_ratios")]))
def test_the_picture_of_rankings(scores: tuple[str, ...]) -> None:
    result = ranking((0.1, 1.0), scores)
    drawn = _draw(result)
    titles = [axis.get_title() for axis in drawn.axes[: len(scores)]]
    assert titles[-1] == "DPO's token reward, its size"
    assert titles[0] == ("Common mask" if len(scores) == 2 else "Mask on the rewards")
    legend = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert legend == ["β = 0.1", "β = 1", "random mask", "reference's expectation"]
    files = ranking_files(result)
    assert set(files) == {"figure3_ranking.png", "figure3_ranking.pdf"}
    assert files == ranking_files(result)


def test_the_picture_is_one(tmp_path: Path) -> None:
    file = tmp_path / "ranking.png"
    file.write_bytes(ranking_files(ranking((0.1,), ("reward_mask",)))["figure3_ranking.png"])
    assert matplotlib.image.imread(file).shape[1] > 300
