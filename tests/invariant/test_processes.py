"""Two processes on the CPU log the curve that one process logs, however the model is held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sparsepo.cli.console import PATIENCE
from sparsepo.cli.main import main
from tests.invariant.curves import AUTOCAST, RUNS, assert_follows, entries
from tests.invariant.training import assert_same_weights
from tests.small_models import small_model, small_tokenizer, text_pairs

REPOSITORY = Path(__file__).parents[2]
CONFIGURATIONS = REPOSITORY / "configs" / "accelerate"

TWO: dict[str, Any] = {"per_device_train_batch_size": 2}
SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
BEST: dict[str, Any] = {**SAVING, "eval_strategy": "steps", "eval_steps": 3,
                        "load_best_model_at_end": True}  # fmt: skip


def launch(configuration: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as two processes, by accelerate and a configuration that is shipped."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")
    }
    return subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch",
            "--config_file", str(CONFIGURATIONS / f"{configuration}.yaml"),
            "--num_processes", "2", "--num_cpu_threads_per_process", "1",
            "-m", *command,
        ],
        cwd=REPOSITORY,
        env={**environment, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )  # fmt: skip


def carried_out(
    temporary: pytest.TempPathFactory,
    configuration: str,
    runs: dict[str, dict[str, Any]],
    name: str | None = None,
) -> dict[str, Any]:
    """Return what each of two processes found in each run, and the folder they worked in.

    Where pytest itself runs in several processes, the first that asks launches for all of them.

    Args:
        temporary: makes the folder.
        configuration: of accelerate.
        runs: how to carry out each.
        name: of the folder, if it is not the configuration's.
    """
    folder = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / (name or configuration)
    spec, found = folder / "spec.json", folder / "spec.found.json"
    with FileLock(f"{folder}.lock"):
        if not spec.exists():
            folder.mkdir()
            sharded = configuration == "fsdp"
            spec.write_text(json.dumps({"sharded": sharded, "runs": list(runs.values())}))
            ended = launch(configuration, "tests.invariant.worker", str(spec))
            (folder / "said").write_text(ended.stderr[-4000:])
    assert found.exists(), (folder / "said").read_text()
    results: list[list[dict[str, Any]]] = json.loads(found.read_text())
    return {"folder": folder, **dict(zip(runs, results, strict=True))}


DDP: dict[str, dict[str, Any]] = {
    **{
        name: {"name": name, "changes": TWO}
        for name in (
            "gpt2-dpo",
            "gpt2-sparsepo-independent",
            "gpt2-sparsepo-common-lora",
            "gpt2-tdpo1-lora-trained",
        )
    },
    # Masks of every kind: each of their weights has a part in the loss, or DDP would wait for it.
    "last layer": {
        "name": "gpt_neox-sparsepo-independent",
        "changes": {**TWO, "mask_layers": "last", "mask_feed_forward": 2},
    },
    "accumulated": {
        "name": "gpt_neox-sparsepo-independent",
        "changes": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
    },
    "recomputed": {
        "name": "gpt_neox-sparsepo-common",
        "changes": {**TWO, "activation_checkpointing": True},
    },
    "resumed": {"name": "gpt_neox-mapo", "changes": {**TWO, **SAVING}, "interrupt": 11},
    "best": {"name": "gpt_neox-sparsepo-common", "changes": {**TWO, **BEST}},
    "poisoned": {"name": "gpt_neox-dpo", "changes": {**TWO, **SAVING}, "poison": 4},
}


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return carried_out(tmp_path_factory, "ddp", DDP)


@pytest.mark.parametrize("name", [name for name in DDP if name not in ("poisoned", "last layer")])
def test_two_processes_are_one(ddp: dict[str, Any], name: str) -> None:
    """The curve, with uneven shares at the end of an epoch; the same weights and scores on both."""
    first, second = ddp[name]
    assert first["wrapped"] == "DistributedDataParallel"
    assert_follows(first["entries"], DDP[name]["name"])
    assert_follows(second["entries"], DDP[name]["name"])
    for what in ("masks", "weights", "scores"):
        assert first[what] == second[what], what
    assert ("interrupted" in first) == (name == "resumed")


def test_masks_of_the_last_layer(ddp: dict[str, Any]) -> None:
    first, second = ddp["last layer"]
    losses = [entry["loss"] for entry in first["entries"]]
    assert losses[-1] < losses[0]
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize("name", ["gpt2-sparsepo-independent", "gpt2-sparsepo-common-lora"])
def test_scores_and_model_are_those_of_one_process(
    ddp: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """Pairs are shared out among the processes and come back in order; the model is saved once."""
    trainer = RUNS[name].trainer(tmp_path)
    trainer.train()
    first, _ = ddp[name]
    scores = trainer.score_pairs(text_pairs(5, seed=3), batch_size=2)
    assert [pair for pair, *_ in first["scores"]] == [score.pair_id for score in scores]
    for (_, loss, logps), score in zip(first["scores"], scores, strict=True):
        assert loss == pytest.approx(score.loss, rel=1e-4)
        assert logps == pytest.approx(score.chosen_logps, rel=1e-4)
    saved = ddp["folder"] / str(list(DDP).index(name)) / "saved"
    trainer.save_model(str(tmp_path / "saved"))
    for file in sorted((tmp_path / "saved").glob("*.safetensors")):
        assert_same_weights(load_file(saved / file.name), load_file(file), 1e-4)


def test_what_one_process_meets_stops_both(ddp: dict[str, Any]) -> None:
    """The second one's loss is NaN: neither waits for the other, and both name the pair."""
    first, second = ddp["poisoned"]
    assert "not finite at step 4 for pair pair-" in first["error"]
    assert first["error"] == second["error"]
    folder = ddp["folder"] / str(list(DDP).index("poisoned"))
    assert [file.name for file in folder.glob("checkpoint-*")] == ["checkpoint-3"]


ADAMW: dict[str, Any] = {"optim": "adamw_torch", "learning_rate": 1e-3}

FSDP: dict[str, dict[str, Any]] = {
    "tied": {"name": "gpt2-sparsepo-independent", "changes": TWO},
    "accumulated and recomputed": {
        "name": "gpt_neox-sparsepo-common",
        "changes": {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 2,
            "activation_checkpointing": True,
        },
    },
    # torch cannot load a sharded optimizer that has no state, which SGD's is.
    "resumed": {"name": "gpt_neox-sparsepo-independent", "changes": {**TWO, **SAVING, **ADAMW},
                "interrupt": 11},
    "adapters": {"name": "gpt2-sparsepo-common-lora", "changes": TWO},
    "laptop": {"name": "llama-sparsepo-independent", "changes": TWO},
    "laptop, adapters": {"name": "llama-sparsepo-common-lora", "changes": TWO},
    "half": {"name": "gpt_neox-sparsepo-common", "changes": {**TWO, "bf16": True}},
    "best": {"name": "gpt_neox-sparsepo-common", "changes": {**TWO, **BEST, **ADAMW},
             "interrupt": 11},
}  # fmt: skip


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return carried_out(tmp_path_factory, "fsdp", FSDP)


@pytest.mark.parametrize("name", FSDP)
def test_a_model_split_over_two_processes(fsdp: dict[str, Any], tmp_path: Path, name: str) -> None:
    """FSDP2, its blocks gathered one at a time: the plain run's curve, and a whole model saved."""
    first, second = fsdp[name]
    run = RUNS[FSDP[name]["name"]]
    assert first["wrapped"] == "FSDPPolicyWithMasks"
    assert first["units"] == 3  # blocks
    # Each mask is a unit of its own, which has its own dtype.
    assert first["mask_units"] and all(first["mask_units"])
    if "interrupt" in FSDP[name]:
        assert first["interrupted"] and second["interrupted"]
        plain = run.trainer(tmp_path, **ADAMW)
        plain.train()
        for ours, expected in zip(first["entries"], entries(plain), strict=True):
            # AdamW makes more of small differences.
            assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    else:
        assert_follows(first["entries"], run.name, *([AUTOCAST] if name == "half" else []))
    assert first["scores"] == second["scores"]
    saved = fsdp["folder"] / str(list(FSDP).index(name)) / "saved"
    model: Any = run.base()
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        before = model(ids).logits
        if run.lora:
            model = PeftModel.from_pretrained(model, str(saved))
        else:
            model = AutoModelForCausalLM.from_pretrained(saved)
        assert (model.eval()(ids).logits - before).abs().max() > 1e-3
    masks = load_file(saved / "masks.safetensors")
    assert all(value.isfinite().all() for value in masks.values()) and masks


@pytest.mark.parametrize("configuration", ["ddp", "fsdp"])
def test_both_processes_load_the_best_checkpoint(
    configuration: str, request: pytest.FixtureRequest
) -> None:
    """The held-out preferences are turned, so that it is the first one of four."""
    first, second = request.getfixturevalue(configuration)["best"]
    step, lowest, again = first["best"]
    assert step == 3
    assert again == pytest.approx(lowest, rel=1e-6)
    assert first["best"] == second["best"]


# The command


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    small_model("gpt_neox").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(11)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["use_cpu=true", "num_train_epochs=1", "optim=sgd", "learning_rate=0.1",
                "mask_dropout=0", "disable_tqdm=true"]  # fmt: skip
    return [
        "train", "--model", str(tmp_path / "model"), "--data", str(data),
        "--method", "sparsepo-common", *(w for s in settings for w in ("--set", s)),
    ]  # fmt: skip


def test_the_command_as_two_processes(tmp_path: Path, words: list[str]) -> None:
    """It trains what one process trains, says so once, and leaves nothing half-done behind."""
    two, one = tmp_path / "two", tmp_path / "one"
    batch = "per_device_train_batch_size"
    ended = launch("ddp", "sparsepo", *words, "--set", f"{batch}=2", "--output", str(two))
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert main([*words, "--set", f"{batch}=4", "--output", str(one)]) == 0
    for line in ("11 of 11 rows kept", "11 of 11 pairs tokenized", f"Saved to {two}"):
        assert ended.stderr.count(line) == 1, ended.stderr
    names = {file.name for file in one.iterdir()}
    assert {file.name for file in two.iterdir()} == names
    for file in ("model.safetensors", "masks.safetensors"):
        assert_same_weights(load_file(two / file), load_file(one / file), 1e-5)


@pytest.mark.parametrize(("rank", "waits"), [("0", []), ("1", [PATIENCE])])
def test_a_users_error_is_told_by_the_first_process(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rank: str,
    waits: list[int],
) -> None:
    """The launcher ends all others as soon as one has ended: they wait, and speak if it did not."""
    waited: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(time, "sleep", waited.append)
    assert main([*words, "--set", "bta=0.1", "--output", "out"]) == 2
    assert waited == waits
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: Unknown option 'bta'.")


REWARD = """
def vowels(prompts, responses):
    return [sum(response.count(v) for v in "aeiou") / (len(response) + 1) for response in responses]
"""


@pytest.mark.parametrize("method", ["dpo", "grpo", "ppo"])
def test_two_processes_draw_the_samples_of_one(tmp_path: Path, method: str) -> None:
    """Each draws for its own prompts, and the step is that of all of them."""
    small_model("gpt2").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "rewards.py").write_text(REWARD)
    rows = [{"prompt": prompt} for prompt in dict.fromkeys(str(p.prompt) for p in text_pairs(16))]
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(output: str, batch: int) -> list[str]:
        settings = ["samples_per_prompt=4", "max_new_tokens=6", "max_steps=3", "optim=sgd",
                    "learning_rate=0.05", "save_strategy=no", "max_length=64", "use_cpu=true",
                    f"per_device_train_batch_size={batch}"]  # fmt: skip
        return [
            "train", "--model", str(tmp_path / "model"), "--data", str(data), "--method", method,
            "--reward", f"{tmp_path / 'rewards.py'}:vowels", "--output", str(tmp_path / output),
            "--set", *settings,
        ]  # fmt: skip

    ended = launch("ddp", "sparsepo", *command("two", 2))
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert main(command("one", 4)) == 0
    two, one = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    assert_same_weights(two, one, 1e-5)
