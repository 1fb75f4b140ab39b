"""The sampling benchmark on very small models: both sides do the same work, as the card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import sampling
from benchmarks.shapes import NARROW, Shape
from tasks.models.generation import sample_ids


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = tuple(
        replace(shape, layers=1, width=32, heads=2, vocabulary=300, prompt=9, response=6)
        for shape in NARROW
    )
    work = tuple(replace(one, prompts=4, samples=2) for one in sampling.WORKLOADS)
    monkeypatch.setattr(sampling, "NARROW", shapes)
    monkeypatch.setattr(sampling, "FULL", shapes)
    monkeypatch.setattr(sampling, "WORKLOADS", work)


def test_both_sides_give_the_same_greedy_responses() -> None:
    shape: Shape = sampling.NARROW[1]
    model, tokenizer = sampling.load(shape, "cpu")
    model.generation_config.eos_token_id = [*range(1, 40), tokenizer.eos_token_id]
    prompts = [[5, 100, 7], [250] * 9, [9, 8, 150, 90]] * 30
    theirs = sampling.generate(model, prompts, 6, 0, temperature=0.0)
    assert len({len(ids) for ids in theirs}) > 1 or len(theirs[0]) == 6
    assert theirs == sample_ids(model, prompts, tokenizer, max_new_tokens=6, temperature=0).ids


def test_the_card_has_every_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "CARDS", tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["sampling", "--rounds", "2", "--threads", "1", "--name", "card"]
    )
    sampling.main()
    page = (tmp_path / "card.md").read_text()
    for workload in sampling.WORKLOADS:
        assert f"| {workload.title} |" in page
    assert "--rounds 2" in page


def test_the_count_of_changed_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sampling.compare_sizes(80, "cpu")
    assert {one.architecture for one in found} == {
        "gpt2",
        "gpt_neox",
        "gptj",
        "gpt_bigcode",
        "llama",
    }
    assert {one.temperature for one in found} == {0.0, 0.75}
    assert all(one.tokens > 0 and one.changed == 0 for one in found)
