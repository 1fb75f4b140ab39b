"""Systems in processes of their own, where one's failure leaves the others' results as they are."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import race
from benchmarks.gpu.race import PEER, Contest, Race, contests, write_varied_pairs
from benchmarks.process import BenchmarkError, LateError
from benchmarks.shapes import FULL, LAPTOP, LORA_TARGETS, model_in_memory, write_model
from sparsepo.models.points import query_value_projections
from tests.benchmarks.test_training import made_up
from tests.small_models import small_model


class MadeUp:
    """A system's process that answers at once, or fails where it is told to."""

    def __init__(self, system: str, spec: dict[str, Any], *_: Any) -> None:
        self.system, self.spec = system, spec
        self.steps = 0

    def ready(self, limit: float) -> None:
        """Be ready, unless the system cannot start."""
        if self.system == "ours:tdpo1":
            raise BenchmarkError("ours:tdpo1 stopped: x | torch.OutOfMemoryError: CUDA out of …")

    def step(self, limit: float) -> dict[str, Any]:
        """Take half a second; the peer fails in its second step."""
        self.steps += 1
        if self.system == PEER and self.steps == 2:
            raise BenchmarkError(f"{PEER} stopped: {400 * 'x'}")
        return {"seconds": 0.5, "peak": 10**9}

    def close(self) -> None:
        """End."""


def made_up_race(folder: Path, systems: tuple[str, ...], **changes: Any) -> Race:
    contest = Contest("x", contests(small=True)[1].shape, systems, lora_r=4)
    return Race(replace(contest, **changes), folder, 2, "cpu")


def test_what_fails_is_said_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "Worker", MadeUp)
    monkeypatch.setattr(race, "find_spec", lambda name: name != "liger_kernel" or None)
    systems = ("ours:dpo", "ours:tdpo1", PEER, "trl-liger:dpo", "ours-sdpa:dpo")
    entrants = made_up_race(tmp_path, systems)
    entrants.start()
    entrants.wait(1)
    found = entrants.run(100)
    assert found is not None
    assert found.seconds == {"ours:dpo": [0.5, 0.5], "ours-sdpa:dpo": [0.5, 0.5]}
    results = entrants.results(found)
    assert list(results) == list(systems)
    assert results["ours:dpo"].verdict == "measured"
    assert results["ours:dpo"].text == "0.500 s per step, 1.00 GB; the first step took 0.5 s"
    assert results["ours:dpo"].figures == {"first step": 0.5}
    assert (results["ours:tdpo1"].verdict, results["ours:tdpo1"].text) == (
        "failed",
        "out of memory",
    )
    # A peer's failure is not this library's.
    assert results[PEER].verdict == "not run"
    assert len(results[PEER].text) < 320
    assert results["trl-liger:dpo"].text == "liger-kernel is not installed"


def test_without_time_or_start_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "Worker", MadeUp)
    entrants = made_up_race(tmp_path, ("ours:dpo",))
    assert entrants.results(None)["ours:dpo"].text == "it was not reached"
    entrants.start()
    found = entrants.run(-1)
    assert found is None
    assert entrants.results(found)["ours:dpo"].text == "no time was left"


def test_a_system_that_hangs_has_failed_unless_its_time_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(MadeUp):
        def step(self, limit: float) -> dict[str, Any]:
            raise LateError(f"{self.system} gave no answer within {limit:.0f} s")

    monkeypatch.setattr(race, "Worker", Hanging)
    verdicts = []
    for seconds in (race.STEP_LIMIT + 10, race.STEP_LIMIT - 10):
        entrants = made_up_race(tmp_path, ("ours:dpo",))
        entrants.start()
        assert entrants.run(seconds) is None
        verdicts.append(entrants.results(None)["ours:dpo"])
    assert [one.verdict for one in verdicts] == ["failed", "not run"]
    assert "no answer within 60 s" in verdicts[0].text


def test_a_system_that_is_not_ready_has_failed_only_after_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loading(MadeUp):
        def ready(self, limit: float) -> None:
            raise LateError(f"{self.system} gave no answer")

    monkeypatch.setattr(race, "Worker", Loading)
    for limit, verdict in ((1000.0, "not run"), (0.0, "failed")):
        monkeypatch.setattr(race, "READY_LIMIT", limit)
        entrants = made_up_race(tmp_path, ("ours:dpo",))
        entrants.start()
        entrants.wait(0)
        assert entrants.results(None)["ours:dpo"].verdict == verdict


def test_the_peers_ratios_are_said() -> None:
    text = race.describe(made_up(), "ours:sparsepo-common")
    assert text.startswith("2.000 s per step, 0.10 GB; 0.50 [0.25, 0.90] of the time of TRL, dpo")
    assert "of the time" not in race.describe(made_up(), PEER)


@pytest.mark.slow
def test_a_system_takes_its_steps_with_a_model_made_in_memory(tmp_path: Path) -> None:
    """GPT-J with adapters, besides a method that does not exist."""
    entrants = made_up_race(tmp_path, ("ours:dpo", "ours:no-such"))
    try:
        entrants.start()
        entrants.wait(250)
        found = entrants.run(250)
    finally:
        entrants.close()
    results = entrants.results(found)
    assert results["ours:dpo"].verdict == "measured", results
    assert results["ours:no-such"].verdict == "failed"
    assert "Unknown method" in results["ours:no-such"].text
    # The weights were never written.
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("trl") is None, reason="needs TRL")
@pytest.mark.parametrize("lora_r", [None, 4])
def test_trl_trains_the_same_model_in_memory(tmp_path: Path, lora_r: int | None) -> None:
    entrants = made_up_race(tmp_path, (PEER,), lora_r=lora_r)
    try:
        entrants.start()
        entrants.wait(250)
        found = entrants.run(250)
    finally:
        entrants.close()
    assert entrants.results(found)[PEER].verdict == "measured", entrants.failures


def test_a_model_in_memory_has_its_dtype_and_shape(tmp_path: Path) -> None:
    shape = replace(LAPTOP, layers=2, vocabulary=99)
    write_model(shape, tmp_path, weights=False)
    model = model_in_memory(tmp_path, "cpu", "bfloat16")
    assert model.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    config = model.config
    assert (config.num_key_value_heads, config.intermediate_size) == (3, 1536)
    counted = sum(weight.numel() for weight in model.parameters() if weight.ndim > 1)
    assert counted == 2 * shape.block_weights() + 99 * 576


def test_the_shape_of_smollm2_has_its_number_of_weights() -> None:
    norms = (2 * LAPTOP.layers + 1) * LAPTOP.width
    weights = LAPTOP.layers * LAPTOP.block_weights() + LAPTOP.vocabulary * LAPTOP.width + norms
    assert weights == 134_515_008


@pytest.mark.parametrize("architecture", LORA_TARGETS)
def test_adapters_are_where_the_trainer_puts_them(architecture: str) -> None:
    found = query_value_projections(small_model(architecture))
    assert found == sorted(LORA_TARGETS[architecture])


def test_lengths_vary_within_the_shape(tmp_path: Path) -> None:
    shape = replace(FULL[1], prompt=400, response=300, vocabulary=50)
    file = tmp_path / "pairs.jsonl"
    write_varied_pairs(shape, 200, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lengths = [len(row["prompt"].split()) for row in rows]
    assert 60 < statistics.median(lengths) < 110
    assert min(lengths) >= 1 and max(lengths) < 400 and len(set(lengths)) > 80
    assert max(len(row["chosen"].split()) for row in rows) < 300


def test_the_contests_are_those_of_the_docs() -> None:
    hh, tldr, smollm2, varied = contests(small=False)
    assert (hh.shape.name, hh.lora_r) == ("hh", None)
    assert (tldr.shape.name, tldr.lora_r) == ("tldr", 16)
    assert smollm2.shape is LAPTOP
    assert varied.varied
    assert all(PEER in contest.systems for contest in contests(small=False))
