"""Table 1's reference cache: shared by its runs, which say what they said without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.config.assign import apply_assignments
from harness.domains.common.rows import method_rows
from harness.domains.common.work.reference import build_reference_cache
from harness.domains.dialogue import DOMAIN
from harness.domains.dialogue.pipeline import build_graph
from harness.graph.stages import Stage, StageContext, load_function, topological
from sparsepo import UserError
from sparsepo.reference.online import Reference
from tests.small_table import SMALL

METHODS = ("dpo", "dpop", "mapo")


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    profile = apply_assignments(
        DOMAIN.get_profile("tiny"), (*SMALL, "seeds=1", "po.device_batch_size=8")
    )
    graph = build_graph(profile, method_rows(*METHODS))
    return {stage.name: stage for stage in topological(graph.targets)}


def run(stage: Stage, work: Path, inputs: dict[str, Path], told: list[Any] | None = None) -> Path:
    """Make a stage here, without a store."""
    work.mkdir(parents=True)
    load_function(stage.function)(
        StageContext(
            name=stage.name,
            config=stage.record["config"],
            inputs=inputs,
            files={},
            work=work,
            progress=lambda *now: told.append(now) if told is not None else None,
            threads=1,
        )
    )
    return work


@pytest.fixture(scope="module")
def made(stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a training run starts from: pairs and a small SFT model."""
    folder = tmp_path_factory.mktemp("made")
    world = run(stages["world seed 42"], folder / "world", {})
    pairs = run(stages["preference pairs seed 42"], folder / "pairs", {"world": world})
    base = run(stages["base model seed 42"], folder / "base", {"corpus": world})
    sft = run(stages["sft seed 42"], folder / "sft", {"pairs": pairs, "model": base})
    return {"pairs": pairs, "model": sft}


@pytest.fixture(scope="module")
def cache(
    stages: dict[str, Stage], made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    told: list[Any] = []
    folder = tmp_path_factory.mktemp("cache") / "work"
    run(stages["reference cache seed 42"], folder, made, told)
    assert told[-1] == (32, 32, "pairs")
    return folder


def test_the_artefact_is_the_cache_alone(cache: Path) -> None:
    names = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert "reference/complete" in names
    inner = {name.rsplit("/", 1)[-1] for name in names}
    assert inner == {"complete", "fingerprint.json", "index.json", "values.safetensors"}


@pytest.mark.parametrize("method", METHODS)
def test_runs_with_the_cache_say_what_they_said_without(
    stages: dict[str, Stage],
    made: dict[str, Path],
    cache: Path,
    tmp_path: Path,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sorted(cache.rglob("*"))
    stage = stages[f"{method} seed 42"]
    assert stage.inputs["reference"].address == stages["reference cache seed 42"].address
    online = run(stage, tmp_path / "online", made)
    cached = run(stage, tmp_path / "cached", made | {"reference": cache})
    ours, expected = (json.loads((f / "training.json").read_text()) for f in (cached, online))
    assert ours["tokenization"] == expected["tokenization"]
    for entry, theirs in zip(ours["history"], expected["history"], strict=True):
        for name in theirs.keys() - {"rewards/accuracies"}:
            assert entry[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
    ours, expected = (json.loads((f / "scores.json").read_text()) for f in (cached, online))
    for score, theirs in zip(ours, expected, strict=True):
        assert score.pop("pair_id") == theirs.pop("pair_id")
        assert score == pytest.approx(theirs, rel=1e-3, abs=1e-5)
        assert theirs["chosen_kl"] is not None
    weights, their_weights = (
        AutoModelForCausalLM.from_pretrained(f / "model").state_dict() for f in (cached, online)
    )
    for name, value in their_weights.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    assert sorted(cache.rglob("*")) == before


def test_a_run_whose_reference_is_another_fails(
    stages: dict[str, Stage], made: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    """The graph rules this out; if it is wrong the artefact of another stage must not grow."""
    stage = stages["dpo seed 42"]
    training = {**stage.config["training"], "max_length": 100}
    other = replace(stage, config={**stage.config, "training": training})
    with pytest.raises(UserError, match="its values were computed with different max_length"):
        run(other, tmp_path / "other", made | {"reference": cache})


def test_a_resumed_stage_keeps_what_was_computed(
    stages: dict[str, Stage],
    made: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sparsepo.training.cached_reference.PART_PAIRS", 10)
    read = Reference.read

    def failing(self: Reference, *arguments: Any) -> Any:
        if any((tmp_path / "work").rglob("part-*/index.json")):
            raise InterruptedError
        return read(self, *arguments)

    monkeypatch.setattr(Reference, "read", failing)
    stage = stages["reference cache seed 42"]
    assert stage.resumable
    with pytest.raises(InterruptedError):
        run(stage, tmp_path / "work", made)
    told: list[Any] = []
    (tmp_path / "work").rename(tmp_path / "left")
    again = StageContext(
        stage.name, stage.record["config"], made, {}, tmp_path / "left",
        lambda *now: told.append(now), 1,
    )  # fmt: skip
    build_reference_cache(again)
    assert told[-1] == (22, 22, "pairs")


@pytest.mark.parametrize("quantized", [True, False])
def test_a_quantized_policy_has_a_cache_of_the_quantized_model(
    quantized: bool, tmp_path: Path
) -> None:
    """Otherwise training would find no value of its own reference in the cache, and stop."""
    if quantized:
        pytest.importorskip("bitsandbytes")
    own = (
        *SMALL,
        "seeds=1",
        "po.lora_r=2",
        "po.device_batch_size=8",
        f"po.load_in_4bit={str(quantized).lower()}",
    )
    profile = apply_assignments(DOMAIN.get_profile("tiny"), own)
    graph = build_graph(profile, method_rows("dpo"))
    found = {stage.name: stage for stage in topological(graph.targets)}
    assert ("load_in_4bit" in found["reference cache seed 42"].config["training"]) is quantized
    world = run(found["world seed 42"], tmp_path / "world", {})
    pairs = run(found["preference pairs seed 42"], tmp_path / "pairs", {"world": world})
    base = run(found["base model seed 42"], tmp_path / "base", {"corpus": world})
    inputs = {"pairs": pairs, "model": base}
    reference = run(found["reference cache seed 42"], tmp_path / "reference", inputs)
    trained = run(found["dpo seed 42"], tmp_path / "dpo", {**inputs, "reference": reference})
    assert (trained / "model" / "adapter_config.json").is_file()
