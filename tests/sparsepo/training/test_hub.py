"""Pushing to the hub: the right files go up, and nothing is lost where they cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from sparsepo import POConfig, POTrainer, UserError
from sparsepo.cli.main import main
from tests.hub_stand_in import TOKEN, Hub, running_hub
from tests.invariant.training import StopAt
from tests.small_models import small_model, small_tokenizer, text_pairs

WHOLE = {"config.json", "generation_config.json", "model.safetensors", "method.json", "README.md",
         "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
ADAPTERS = {"adapter_config.json", "adapter_model.safetensors", "method.json", "README.md",
            "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
RESUMING = ("optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "log_window")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client takes for the real one."""
    with running_hub() as stand_in:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", stand_in.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield stand_in


def trainer_of(output: Path, callbacks: Any = None, **settings: Any) -> POTrainer:
    arguments: dict[str, Any] = {
        "output_dir": str(output), "method": "dpo", "max_steps": 3, "report_to": "none",
        "per_device_train_batch_size": 2, "use_cpu": True, "disable_tqdm": True,
        "save_steps": 1, "save_total_limit": 1, **settings,
    }  # fmt: skip
    return POTrainer(
        small_model("gpt_neox"),
        args=POConfig(**arguments),
        train_dataset=text_pairs(6),
        processing_class=small_tokenizer(),
        callbacks=callbacks,
    )


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A training command that pushes, whose output is tmp_path/out."""
    small_model("gpt_neox").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(6)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "train", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "pairs.jsonl"),
        "--method", "dpo", "--output", str(tmp_path / "out"), "--set", "max_steps=3",
        "save_steps=1", "use_cpu=true", "per_device_train_batch_size=2", "push_to_hub=true",
    ]  # fmt: skip


def test_a_model_is_pushed_whole_when_it_is_saved(hub: Hub, tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path / "out", method="sparsepo-common", push_to_hub=True, hub_model_id="me/aligned"
    )
    trainer.train()
    trainer.save_model()
    files = hub.files("me/aligned")
    assert set(files) == WHOLE | {"masks.safetensors"}
    saved = tmp_path / "out"
    assert all((saved / name).read_bytes() == content for name, content in files.items())
    assert 'from_pretrained("me/aligned")' in files["README.md"].decode()
    messages = [message for message, _ in hub.repositories["me/aligned"]]
    assert messages[-1] == "Model save"
    # Checkpoints on the way are models too, with their masks and card.
    assert "Training in progress, step 1" in messages
    assert set(hub.repositories["me/aligned"][0][1]) == set(files)


def test_a_model_may_be_pushed_afterwards_with_tags(hub: Hub, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "out", lora_r=2, save_strategy="no")
    trainer.train()
    assert not hub.repositories
    trainer.push_to_hub("Here it is", tags="mine", dataset_name="acme/pairs")
    assert set(hub.files("me/out")) == ADAPTERS
    ((message, files),) = hub.repositories["me/out"]
    assert message == "Here it is"
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "peft"
    assert "mine" in (card.data.tags or [])
    assert card.data.datasets == ["acme/pairs"]


@pytest.mark.parametrize("lora_r", [None, 2])
def test_a_run_that_is_resumed_pushes_the_same_as_one_that_was_not(
    hub: Hub, tmp_path: Path, lora_r: int | None
) -> None:
    """A push leaves no finished model behind, and no state for resuming goes up."""
    common: dict[str, Any] = {"lora_r": lora_r, "push_to_hub": True, "learning_rate": 1e-2}
    whole = trainer_of(tmp_path / "whole", hub_model_id="me/whole", **common)
    whole.train()
    whole.save_model()
    resumed = {"hub_model_id": "me/resumed", **common}
    with pytest.raises(InterruptedError):
        trainer_of(tmp_path / "resumed", callbacks=[StopAt(2)], **resumed).train()
    left = {path.name for path in (tmp_path / "resumed").iterdir()}
    assert not left & {"config.json", "adapter_config.json"}
    trainer = trainer_of(tmp_path / "resumed", **resumed)
    trainer.train(resume_from_checkpoint=str(tmp_path / "resumed" / "checkpoint-2"))
    trainer.save_model()
    files = hub.files("me/resumed")
    assert set(files) == (WHOLE if lora_r is None else ADAPTERS)
    weights = "model.safetensors" if lora_r is None else "adapter_model.safetensors"
    assert files[weights] == hub.files("me/whole")[weights]
    assert not [name for name in files if name.startswith(RESUMING)]


def test_whole_checkpoints_are_pushed_where_that_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path / "out", push_to_hub=True, hub_strategy="checkpoint", hub_always_push=True
    )
    trainer.train()
    trainer.save_model()
    names = set(hub.files("me/out"))
    assert names >= WHOLE
    assert "last-checkpoint/trainer_state.json" in names
    assert "last-checkpoint/optimizer.pt" in names
    assert not (tmp_path / "out" / ".pushing").exists()


# The command


def test_the_command_pushes_what_it_saves(
    hub: Hub, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    assert capsys.readouterr().err.rstrip().endswith("Pushed to me/out")
    assert set(hub.files("me/out")) == WHOLE | {"recipe.yaml"}
    on_disk = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert on_disk == set(hub.files("me/out"))


def test_a_push_that_fails_keeps_the_model_and_says_how_to_go_on(
    hub: Hub, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # The client would try a hub that is down again for a minute.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.failing = True
    assert main(command) == 2
    error = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert error.startswith(f"Error: The model is saved in {tmp_path / 'out'}, but it cannot be")
    assert f"`hf upload me/out {tmp_path / 'out'}`" in error
    assert error.count("Error: ") == 1
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_without_a_token_nothing_is_trained(
    hub: Hub, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    assert main(command) == 2
    error = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert "Error: The repository 'out' cannot be created on the hub" in error
    assert "hf auth login" in error
    assert not any((tmp_path / "out").iterdir())


def test_offline_nothing_is_trained(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert "Error: The repository 'out' cannot be created on the hub" in error
    assert "check the network" in error


def test_from_python_a_push_that_fails_is_one_sentence_too(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "out", save_strategy="no")
    with pytest.raises(UserError, match="cannot be created on the hub"):
        trainer.push_to_hub()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out")
