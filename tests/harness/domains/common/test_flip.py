"""Label noise: which pairs are flipped, and what the stage writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domains.common.work.files import read_pairs_file, write_json, write_pairs
from harness.domains.common.work.flip import flip, flip_pairs, flipped_places
from harness.graph.stages import StageContext
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair

COUNTS = st.integers(0, 200)
SHARES = st.floats(0.0, 1.0)
SEEDS = st.integers(0, 2**32)


def pairs_of(count: int) -> list[PreferencePair]:
    return [PreferencePair(f"p{i}", f"prompt {i}", f"a{i}", f"b{i}") for i in range(count)]


@given(COUNTS, SHARES, SHARES, SEEDS)
def test_a_smaller_shares_pairs_are_among_those_of_a_larger_one(
    count: int, one: float, two: float, seed: int
) -> None:
    smaller, larger = sorted((one, two))
    assert flipped_places(count, smaller, seed) <= flipped_places(count, larger, seed)


@given(COUNTS, SHARES, SEEDS)
def test_the_number_of_flipped_pairs_is_the_share_and_the_seed_decides_which(
    count: int, share: float, seed: int
) -> None:
    places = flipped_places(count, share, seed)
    assert abs(len(places) - share * count) <= 0.5
    assert places <= set(range(count))
    assert places == flipped_places(count, share, seed)


def test_other_seeds_flip_other_pairs() -> None:
    assert flipped_places(100, 0.2, 1) != flipped_places(100, 0.2, 2)
    assert [len(flipped_places(1000, share, 7)) for share in (0, 0.1, 0.2, 0.3)] == [
        0,
        100,
        200,
        300,
    ]


@given(st.integers(1, 60), SHARES, SEEDS)
def test_flipping_twice_changes_nothing_and_once_exactly_the_chosen_pairs(
    count: int, share: float, seed: int
) -> None:
    pairs, places = pairs_of(count), flipped_places(count, share, seed)
    flipped = flip(pairs, places)
    assert flip(flipped, places) == pairs
    for place, (before, after) in enumerate(zip(pairs, flipped, strict=True)):
        assert (after.pair_id, after.prompt) == (before.pair_id, before.prompt)
        both = (before.chosen, before.rejected)
        assert (after.chosen, after.rejected) == (both[::-1] if place in places else both)


def run_stage(tmp_path: Path, share: float) -> Path:
    source, work = tmp_path / "pairs", tmp_path / "flipped"
    for folder in (source, work):
        folder.mkdir()
    for split, count in (("train", 20), ("test", 5)):
        write_pairs(pairs_of(count), source / f"{split}.jsonl")
    write_json(["a prompt"], source / "prompts.json")
    write_json({"train": {"used": 20}}, source / "report.json")
    write_json({}, source / "stage.json")
    config = {"share": share, "seed": 3}
    flip_pairs(StageContext("f", config, {"pairs": source}, {}, work, lambda *told: None, 1))
    return work


def test_the_stage_flips_training_pairs_only_and_reports_how_many(tmp_path: Path) -> None:
    work = run_stage(tmp_path, 0.3)
    assert {file.name for file in work.iterdir()} == {
        "train.jsonl",
        "test.jsonl",
        "prompts.json",
        "report.json",
    }
    for name in ("test.jsonl", "prompts.json"):
        assert (work / name).read_bytes() == (tmp_path / "pairs" / name).read_bytes()
    report = json.loads((work / "report.json").read_text())
    assert report["flipped"] == {"share": 0.3, "pairs": 6, "of": 20}
    assert report["train"] == {"used": 20}
    expected = flip(pairs_of(20), flipped_places(20, 0.3, 3))
    assert read_pairs_file(work / "train.jsonl") == expected


def test_a_share_of_less_than_one_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"less than one pair; raise noise\.shares"):
        run_stage(tmp_path, 0.01)
