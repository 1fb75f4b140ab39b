"""What a training stage can be asked for beside the last model."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.config.profiles import TrainingSettings
from harness.domains.common.work.files import write_pairs
from harness.domains.common.work.train import train_policy
from harness.graph.stages import StageContext
from sparsepo.types import PreferencePair
from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import build_model, train_tokenizer

SETTINGS = TrainingSettings(
    learning_rate=1e-2,
    epochs=2,
    batch_size=4,
    device_batch_size=4,
    max_length=48,
    max_prompt_length=32,
    logging_steps=1,
)


def pairs(count: int, offset: int = 0) -> list[PreferencePair]:
    words = ["good", "fine", "bad", "poor", "dull"]
    return [
        PreferencePair(f"p{i}", f"film {i} is", " " + words[i % 2], " " + words[2 + i % 3])
        for i in range(offset, offset + count)
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = train_tokenizer(["film 1 is good fine bad poor dull"] * 9, 290, 64)
    torch.manual_seed(0)
    model = folder / "model" / "model"
    build_model(
        BaseModelConfig(layers=1, width=32, heads=2, context=64), tokenizer
    ).save_pretrained(model)
    tokenizer.save_pretrained(model)
    (folder / "pairs").mkdir()
    write_pairs(pairs(16), folder / "pairs" / "train.jsonl")
    # The opposite of what is trained, so that its loss rises with every step.
    other_way = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs(6, 40)]
    write_pairs(other_way, folder / "pairs" / "validation.jsonl")
    (folder / "tuned").mkdir()
    (folder / "tuned" / "tuned.json").write_text('{"hyper_parameters": {"beta": 0.7}}')
    return {name: folder / name for name in ("model", "pairs")}


def train(
    work: Path,
    inputs: dict[str, Path],
    method: str = "dpo",
    stop_at: int | None = None,
    **changes: Any,
) -> Any:
    def progress(done: float, total: float, unit: str) -> None:
        if unit == "steps" and done == stop_at:
            raise KeyboardInterrupt

    work.mkdir(exist_ok=True)
    training = {**asdict(SETTINGS), **changes}
    train_policy(
        StageContext(
            name="t",
            config={
                "method": method,
                "hyper_parameters": {} if method == "sft" else {"beta": 0.1},
                "training": training,
                "seed": 42,
                "device": "cpu",
                "model": None,
            },
            inputs=inputs,
            files={},
            work=work,
            progress=progress,
            threads=1,
        )
    )
    return json.loads((work / "training.json").read_text())


def weights(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_snapshots_are_models_of_their_steps(tmp_path: Path, inputs: dict[str, Path]) -> None:
    report = train(tmp_path / "w", inputs, snapshot_steps=3)
    assert report["steps"] == report["kept_step"] == 8
    snapshots = {path.name: weights(path) for path in (tmp_path / "w/snapshots").iterdir()}
    assert set(snapshots) == {"3", "6"}
    assert not torch.equal(snapshots["3"], snapshots["6"])
    shorter = train(tmp_path / "s", inputs, snapshot_steps=8)
    assert torch.equal(weights(tmp_path / "s/snapshots/8"), weights(tmp_path / "s/model"))
    assert torch.equal(weights(tmp_path / "w/model"), weights(tmp_path / "s/model"))
    assert shorter["history"] == report["history"]
    assert not (tmp_path / "w/checkpoints").exists()


def test_the_model_of_the_lowest_validation_loss_is_kept(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    report = train(tmp_path / "w", inputs, validation_steps=2, snapshot_steps=2)
    losses = {e["step"]: e["eval_loss"] for e in report["history"] if "eval_loss" in e}
    assert set(losses) == {2, 4, 6, 8}
    assert min(losses, key=lambda step: losses[step]) == 2
    assert report["kept_step"] == 2
    assert torch.equal(weights(tmp_path / "w/model"), weights(tmp_path / "w/snapshots/2"))
    assert not torch.equal(weights(tmp_path / "w/model"), weights(tmp_path / "w/snapshots/8"))


def test_given_order_is_kept_and_random_order_is_not(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    given = train(tmp_path / "g", inputs, order="given", epochs=1)
    drawn = train(tmp_path / "r", inputs, epochs=1)
    losses = [[e["logps/chosen"] for e in r["history"] if "loss" in e] for r in (given, drawn)]
    assert losses[0] != losses[1]
    other = train(tmp_path / "o", inputs, order="given", epochs=1)
    assert other["history"] == given["history"]


def cost(work: Path) -> Any:
    return json.loads((work / "cost.json").read_text())


def test_cost_is_that_of_the_training_steps(tmp_path: Path, inputs: dict[str, Path]) -> None:
    train(tmp_path / "d", inputs)
    found = cost(tmp_path / "d")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "d/model")
    assert found["trained_parameters"] == sum(p.numel() for p in model.parameters())
    assert found["steps"] == 8 and found["seconds"] > 0.0 and found["threads"] == 1
    assert found["tokens_per_second"] == pytest.approx(found["tokens"] / found["seconds"], rel=0.1)
    # A process with torch and a model in it.
    assert found["memory_of"] == "process" and found["peak_memory_bytes"] > 100 * 2**20
    assert "×" in found["hardware"]
    train(tmp_path / "s", inputs, method="sft", epochs=1)
    # SFT reads no rejected response, and half as many epochs.
    assert cost(tmp_path / "s")["tokens"] < 0.5 * found["tokens"]


def test_a_mask_is_trained_too(tmp_path: Path, inputs: dict[str, Path]) -> None:
    train(tmp_path / "d", inputs, epochs=1)
    train(tmp_path / "m", inputs, method="sparsepo-common", epochs=1)
    assert cost(tmp_path / "m")["trained_parameters"] > cost(tmp_path / "d")["trained_parameters"]


def test_a_resumed_stage_adds_up_its_parts(tmp_path: Path, inputs: dict[str, Path]) -> None:
    train(tmp_path / "w", inputs, save_steps=2)
    whole = cost(tmp_path / "w")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "r", inputs, stop_at=5, save_steps=2)
    parts = json.loads((tmp_path / "r/cost_parts.json").read_text())
    assert len(parts["seconds"]) == 4
    # As if the first part had been slow.
    parts["seconds"] = [100.0] * 4
    parts["peak_memory_bytes"] = 2**50
    (tmp_path / "r/cost_parts.json").write_text(json.dumps(parts))
    train(tmp_path / "r", inputs, save_steps=2)
    resumed = cost(tmp_path / "r")
    assert (resumed["steps"], resumed["tokens"]) == (whole["steps"], whole["tokens"])
    assert 400.0 < resumed["seconds"] < 500.0
    assert resumed["peak_memory_bytes"] == 2**50
    assert torch.equal(weights(tmp_path / "w/model"), weights(tmp_path / "r/model"))
    assert not (tmp_path / "r/cost_parts.json").exists()


def test_a_checkpoint_in_half_precision_is_trained_in_full(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    """In float16, a step of 1e-6 would change no weight of 0.08, and the run would stand still."""
    source = inputs["model"] / "model"
    half = tmp_path / "half" / "model"
    shutil.copytree(source, half)
    AutoModelForCausalLM.from_pretrained(source).half().save_pretrained(half)
    own = {**inputs, "model": half.parent}
    for precision in ("float32", "bfloat16"):
        work = tmp_path / precision
        train(work, own, "sft", learning_rate=1e-6, precision=precision)
        made: Any = AutoModelForCausalLM.from_pretrained(work / "model")
        began: Any = AutoModelForCausalLM.from_pretrained(half, dtype="float32")
        assert made.dtype == torch.float32
        head, before = made.get_output_embeddings().weight, began.get_output_embeddings().weight
        assert not torch.equal(head, before)
