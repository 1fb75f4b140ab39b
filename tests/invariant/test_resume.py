"""Interrupted and resumed is uninterrupted, bit for bit on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from sparsepo import UserError
from sparsepo.cli.main import main
from sparsepo.training.loading import last_checkpoint
from sparsepo.training.start_check import START_CHECK
from sparsepo.training.trainer import POTrainer
from tests.invariant.training import StopAt, assert_same_weights, history, make_trainer, state
from tests.small_models import small_model, small_tokenizer, text_pairs

REPOSITORY = Path(__file__).parents[2]


RUNS: list[dict[str, Any]] = [
    {"method": "sparsepo-independent", "mask_dropout": 0.2},
    {"method": "sparsepo-common", "mask_kind": "random"},
    {"method": "sparsepo-common", "mask_kind": "binary", "architecture": "gpt2"},
    {"method": "mapo", "architecture": "llama"},
    {"method": "sft", "architecture": "gptj"},
    {"method": "dpop", "architecture": "gpt_bigcode", "gradient_accumulation_steps": 2},
]


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_resumed_is_uninterrupted(tmp_path: Path, run: dict[str, Any]) -> None:
    """Weights, masks and log history, with the data order, dropout and schedule in the middle."""
    run = {**run, "save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    run["per_device_train_batch_size"] = 4 // run.get("gradient_accumulation_steps", 1)
    whole = make_trainer(tmp_path / "whole", **run)
    whole.train()
    assert whole.state.global_step == 6

    broken = make_trainer(tmp_path / "broken", **run, callbacks=[StopAt(5)])
    with pytest.raises(InterruptedError):
        broken.train()
    torch.manual_seed(999)  # A new process knows nothing of the old one's random state.
    resumed = make_trainer(tmp_path / "broken", **run)
    resumed.train(resume_from_checkpoint=True)

    assert_same_weights(state(resumed), state(whole))
    assert history(resumed)[:-1] == history(whole)[:-1]
    assert len(history(whole)) == 7
    assert resumed.score_pairs(text_pairs(3, seed=5)) == whole.score_pairs(text_pairs(3, seed=5))


def test_resuming_changes_something(tmp_path: Path) -> None:
    """A run that starts anew from the checkpoint's weights alone is another one."""
    run: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    whole = make_trainer(tmp_path, "sparsepo-common", **run)
    whole.train()
    resumed = make_trainer(tmp_path, "sparsepo-common", **run)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert_same_weights(state(resumed), state(whole))
    checkpoint = load_file(tmp_path / "checkpoint-4" / "masks.safetensors")
    assert any(
        not torch.equal(value, state(resumed)[f"masks.{name}"])
        for name, value in checkpoint.items()
    )


def test_adapters_resume_too(tmp_path: Path) -> None:
    def trainer(**options: Any) -> POTrainer:
        torch.manual_seed(0)
        model = get_peft_model(small_model("llama"), LoraConfig(r=4, lora_dropout=0.1))
        run = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2, **options}
        return make_trainer(tmp_path / run.pop("folder"), "sparsepo-common", model=model, **run)

    # Dropout of the adapters makes no difference at step 0: their second factor starts at zero.
    whole = trainer(folder="whole")
    whole.train()
    broken = trainer(folder="broken", callbacks=[StopAt(5)])
    with pytest.raises(InterruptedError):
        broken.train()
    resumed = trainer(folder="broken")
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(state(resumed), state(whole))


@pytest.mark.parametrize(
    ("method", "changes"), [("simpo", {}), ("dpo", {"beta": 0.7})], ids=["method", "beta"]
)
def test_another_runs_checkpoint_is_refused(
    tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    run: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path, "dpo", **run).train()
    other = make_trainer(tmp_path, method, **changes, **run)
    with pytest.raises(UserError, match="another method or other hyper-parameters"):
        other.train(resume_from_checkpoint=True)


def test_masks_of_another_architecture_are_refused(tmp_path: Path) -> None:
    run: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path, "sparsepo-common", **run).train()
    for description in tmp_path.glob("checkpoint-*/method.json"):
        description.unlink()
    other = make_trainer(tmp_path, "sparsepo-common", mask_layers="last", **run)
    with pytest.raises(UserError, match=r"masks in .*another mask architecture"):
        other.train(resume_from_checkpoint=True)


def test_masks_that_are_missing_are_named(tmp_path: Path) -> None:
    run: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path, "dpo", **run).train()
    (tmp_path / "checkpoint-2" / "method.json").unlink()
    other = make_trainer(tmp_path, "sparsepo-common", **run)
    with pytest.raises(UserError, match=r"checkpoint-2 contains no masks\.safetensors"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


# The command, killed for real

KILLER = '''
"""SparsePO whose process is killed at its eighth loss, unless it was killed before."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sparsepo.methods import SparsePOIndependent

calls = []


@dataclass(frozen=True)
class Killed(SparsePOIndependent):
    name: ClassVar[str] = "killed"

    def __call__(self, chosen, rejected):
        calls.append(1)
        marker = Path(__file__).with_name("killed-before")
        if len(calls) == 8 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(chosen, rejected)
'''


def contents(folder: Path) -> dict[str, Any]:
    """Return every weight of a saved model, its masks included."""
    weights = {
        f"{file.name}:{name}": value
        for file in sorted(folder.glob("*.safetensors"))
        for name, value in load_file(file).items()
    }
    assert any(name.startswith("masks.safetensors:kl.") for name in weights)
    return weights


@pytest.mark.usefixtures("clean_registry")
def test_a_killed_command_run_again_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """SIGKILL in the middle of a step, two steps after a checkpoint; the same command goes on."""
    model = tmp_path / "model"
    small_model("gpt_neox").save_pretrained(model)
    small_tokenizer().save_pretrained(model)
    data = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(24)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plugin = tmp_path / "killer.py"
    plugin.write_text(KILLER)

    def command(output: str) -> list[str]:
        settings = ["per_device_train_batch_size=2", "num_train_epochs=1", "learning_rate=1e-3",
                    "save_steps=3", "logging_steps=1", "mask_dropout=0.2",
                    "use_cpu=true"]  # fmt: skip
        return [
            "train", "--model", str(model), "--data", str(data), "--method", "killed",
            "--plugin", str(plugin), "--output", str(tmp_path / output),
            *(word for setting in settings for word in ("--set", setting)),
        ]  # fmt: skip

    killed = subprocess.run(
        [sys.executable, "-m", "sparsepo", *command("killed")],
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "config.json").exists()
    assert last_checkpoint(tmp_path / "killed") == str(tmp_path / "killed" / "checkpoint-6")

    assert main(command("killed")) == 0
    assert main(command("whole")) == 0
    resumed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert_same_weights(resumed, whole)
    logs = []
    for output in ("killed", "whole"):
        folder = tmp_path / output / "checkpoint-12"
        entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        # The run that goes on makes its own check at its own start.
        logs.append([{k: v for k, v in entry.items() if k != START_CHECK} for entry in entries])
    assert logs[0] == logs[1]
    assert len(logs[0]) == 12


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    """The newest whole one counts; trainer_state.json is what transformers writes last."""
    assert last_checkpoint(tmp_path) is None
    states = {"9": "{}", "10": "{}", "90": None, "100": "", "110": '{"log_', "final": "{}"}
    for step, text in states.items():
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").touch()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_the_trainer_state_is_written_last(tmp_path: Path, monkeypatch: Any) -> None:
    """What `last_checkpoint` relies on: everything else is there when it is written."""
    from transformers import TrainerState

    seen: list[set[str]] = []
    write = TrainerState.save_to_json

    def watched(self: Any, path: str) -> None:
        seen.append({file.name for file in Path(path).parent.iterdir()})
        write(self, path)

    monkeypatch.setattr(TrainerState, "save_to_json", watched)
    make_trainer(tmp_path, "sparsepo-common", save_strategy="steps", save_steps=2).train()
    assert seen
    for names in seen:
        assert {"model.safetensors", "masks.safetensors", "method.json", "optimizer.pt",
                "scheduler.pt", "rng_state.pth", "config.json"} <= names  # fmt: skip
