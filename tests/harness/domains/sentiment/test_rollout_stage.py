"""The stages of on-policy training on their own: resuming, costs, prompts, diversity."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.config.profiles import TrainingSettings
from harness.domains.common.work.files import write_pairs
from harness.domains.sentiment.work import rollout
from harness.domains.sentiment.work.diversity import measure_diversity
from harness.domains.sentiment.work.rollout import offline_steps, train_on_samples
from harness.domains.sentiment.work.start import evaluate_start
from harness.domains.sentiment.work.train import Evaluations
from harness.graph.stages import StageContext
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.metrics.text.self_bleu import SelfBleu
from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import build_model, train_tokenizer
from tasks.sentiment.rewards import VaderReward

SETTINGS = TrainingSettings(
    learning_rate=1e-2,
    epochs=2,
    batch_size=4,
    device_batch_size=2,
    max_length=32,
    max_prompt_length=16,
    logging_steps=3,
    save_steps=3,
)
PAIRS = 13
HELD_OUT = ["a plain story is", "a long story is", "a short story is"]
# Two epochs of three whole steps and a step of a single pair each.
STEPS = 8
EVALUATIONS = {"steps": 3, "new_tokens": 8, "batch_size": 16, "seed": 7, "token_pairs": 0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    words = "film story 1 2 3 4 5 6 7 8 9 0 is good fine bad poor dull plain long short a"
    tokenizer = train_tokenizer([words] * 9, 300, 64)
    for name, seed in (("model", 0), ("oracle", 1)):
        torch.manual_seed(seed)
        place = folder / name / "model"
        config = BaseModelConfig(architecture="gpt2", layers=1, width=32, heads=2, context=64)
        model = build_model(config, tokenizer)
        if name == "oracle":
            # So sure of every token that its samples resemble each other.
            embeddings: Any = model.get_input_embeddings()
            embeddings.weight.data.mul_(10)
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    pairs = [PreferencePair(f"p{i}", f"film {i} is", " good", " bad") for i in range(PAIRS)]
    (folder / "pairs").mkdir()
    write_pairs(pairs, folder / "pairs/train.jsonl")
    write_pairs([replace(pairs[0], prompt=HELD_OUT[0])], folder / "pairs/test.jsonl")
    (folder / "pairs/prompts.json").write_text(json.dumps(HELD_OUT))
    found = {name: folder / name for name in ("model", "pairs", "oracle")}
    start = {"evaluations": EVALUATIONS, "seed": 42, "device": "cpu", "model": None}
    evaluate_start(context(folder / "start", found, start))
    return {**found, "start": folder / "start"}


def context(work: Path, inputs: dict[str, Path], config: Any, progress: Any = None) -> StageContext:
    work.mkdir(exist_ok=True)
    told = progress or (lambda *told: None)
    return StageContext("a stage", config, inputs, {}, work, told, 1, {"batch_size": 16})


def train(
    work: Path,
    inputs: dict[str, Path],
    method: str,
    stop_at: int | None = None,
    steps_per_rollout: int = 1,
    **changes: Any,
) -> Any:
    def progress(done: float, total: float, unit: str) -> None:
        if unit == "steps" and done == stop_at:
            raise KeyboardInterrupt

    config = {
        "method": method,
        "hyper_parameters": {"divergence": "js"} if method == "f-dpg" else {},
        "training": {**asdict(SETTINGS), **changes},
        "rollout": {
            "samples_per_prompt": 4,
            "steps_per_rollout": steps_per_rollout,
            "max_new_tokens": 8,
        },
        "reward": {"model": "vader"},
        "evaluations": EVALUATIONS,
        "seed": 42,
        "device": "cpu",
        "model": None,
    }
    given = {name: place for name, place in inputs.items() if name != "oracle" or method == "rto"}
    train_on_samples(context(work, given, config, progress))
    return json.loads((work / "training.json").read_text())


def weights(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("method", "steps_per_rollout", "stop_at"),
    # The checkpoint of step 3 of INPO and PPO lies between two steps on the same samples.
    [("dpo", 1, 5), ("inpo", 2, 4), ("f-dpg", 1, 7), ("grpo", 1, 4), ("ppo", 2, 4), ("rto", 1, 5)],
)
def test_a_killed_run_goes_on_exactly(
    tmp_path: Path,
    inputs: dict[str, Path],
    method: str,
    steps_per_rollout: int,
    stop_at: int,
) -> None:
    whole = train(tmp_path / "w", inputs, method, steps_per_rollout=steps_per_rollout)
    assert whole["steps"] == STEPS
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "r", inputs, method, stop_at, steps_per_rollout)
    assert (tmp_path / "r/checkpoints").is_dir()
    # A line of an evaluation after the checkpoint, and one that was being written.
    responses = tmp_path / "r/responses.jsonl"
    with responses.open("a") as stream:
        stream.write('{"step": 7}\n{"step": 8, "ids": [[1')
    assert train(tmp_path / "r", inputs, method, steps_per_rollout=steps_per_rollout) == whole
    assert torch.equal(weights(tmp_path / "w/model"), weights(tmp_path / "r/model"))
    assert responses.read_bytes() == (tmp_path / "w/responses.jsonl").read_bytes()
    assert not (tmp_path / "r/checkpoints").exists()
    steps = [json.loads(line)["step"] for line in responses.read_text().splitlines()]
    assert steps == [0, 3, 6, 8]


def cost(work: Path) -> Any:
    return json.loads((work / "cost.json").read_text())


def test_the_cost_of_a_step_is_split_and_added_up_over_an_interruption(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    train(tmp_path / "w", inputs, "grpo")
    whole = cost(tmp_path / "w")
    names = [f"seconds_{part}" for part in ("sampling", "scoring", "training")]
    assert sum(whole[name] for name in names) == pytest.approx(whole["seconds"], abs=0.005)
    assert all(whole[name] > 0 for name in names)
    # Evaluations are no part of a step: here they sample more often than the training does.
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "r", inputs, "grpo", stop_at=5)
    parts = json.loads((tmp_path / "r/cost_parts.json").read_text())
    parts["seconds"] = [100.0] * len(parts["seconds"])
    (tmp_path / "r/cost_parts.json").write_text(json.dumps(parts))
    train(tmp_path / "r", inputs, "grpo")
    resumed = cost(tmp_path / "r")
    assert (resumed["steps"], resumed["tokens"]) == (STEPS, whole["tokens"])
    assert 300.0 < resumed["seconds"] < 400.0
    # 4 prompts with 4 samples of up to 8 tokens at each step.
    prompts = 4 * STEPS
    assert prompts * 4 < whole["tokens"] <= prompts * (16 + 4 * 8)


def test_the_time_of_evaluations_is_not_that_of_training(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    evaluate = Evaluations._evaluate

    def slowly(self: Any, step: int) -> None:
        time.sleep(5)
        evaluate(self, step)

    monkeypatch.setattr(Evaluations, "_evaluate", slowly)
    train(tmp_path / "w", inputs, "grpo", epochs=0.5)
    found = cost(tmp_path / "w")
    assert found["steps"] == 2
    # Ten seconds of evaluations, at the start and at the end.
    assert found["seconds"] < 5


def test_the_reward_is_that_of_the_evaluation_on_prompts_of_the_training_pairs(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    class Recorded(VaderReward):
        def __call__(self, given: Any) -> list[float]:
            texts.extend(given)
            return super().__call__(given)

    monkeypatch.setattr(rollout, "reward_of", lambda context: Recorded())
    report = train(tmp_path / "w", inputs, "grpo", epochs=1)
    assert len(texts) == 4 * 4 * 4
    prompts = {text[: text.index(" is") + 3] for text in texts}
    assert prompts <= {f"film {i} is" for i in range(PAIRS)} and len(prompts) >= 4
    logged = [entry["rollout/reward"] for entry in report["history"] if "rollout/reward" in entry]
    assert sum(3 * logged[0:1] + logged[1:]) / 4 == pytest.approx(
        sum(VaderReward()(texts)) / len(texts), abs=1e-5
    )


@pytest.mark.parametrize(
    ("pairs", "batch", "epochs", "steps"), [(13, 4, 2, 8), (12, 4, 1, 3), (5, 4, 0.5, 1)]
)
def test_there_are_as_many_steps_as_on_pairs(
    pairs: int, batch: int, epochs: float, steps: int
) -> None:
    assert offline_steps(pairs, batch, epochs) == steps


def test_too_few_prompts_are_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"po\.batch_size=16 prompts, and there are 13 training"):
        train(tmp_path / "w", inputs, "grpo", batch_size=16)


def test_diversity_is_self_bleu_of_each_prompts_samples(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "prompts": 2,
        "samples": 3,
        "new_tokens": 8,
        "seed": 3,
        "device": "cpu",
        "model": None,
        "generation": {"backend": "transformers"},
    }
    seen: list[list[str]] = []
    score = SelfBleu.score

    def recorded(self: SelfBleu, groups: Any, **given: Any) -> Any:
        seen.extend(groups)
        return score(self, groups, **given)

    monkeypatch.setattr(SelfBleu, "score", recorded)
    own = {name: inputs[name] for name in ("pairs", "model")}
    measure_diversity(context(tmp_path / "start", own, config))
    found = json.loads((tmp_path / "start/diversity.json").read_text())
    assert [len(group) for group in seen] == [3, 3]
    assert found["self_bleu"] == score(SelfBleu(), seen).values
    counts = json.loads((tmp_path / "start/generation.json").read_text())
    assert (counts["prompts"], counts["responses"]) == (2, 6)
    assert not (tmp_path / "start/journal.jsonl").exists()
    # The model of a run, where there is one.
    measure_diversity(
        context(tmp_path / "run", {"pairs": inputs["pairs"], "run": inputs["oracle"]}, config)
    )
    other = json.loads((tmp_path / "run/diversity.json").read_text())
    assert other["self_bleu"] == score(SelfBleu(), seen[2:]).values
    assert max(other["self_bleu"]) > max(found["self_bleu"])
