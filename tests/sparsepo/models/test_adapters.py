"""LoRA and quantized base models, from the command line and in POTrainer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from sparsepo import POConfig, POTrainer, UserError
from sparsepo.cli.main import main
from sparsepo.models.adapters import BITSANDBYTES, keep_start
from sparsepo.training.loading import load_policy
from tests.invariant.training import StopAt, make_trainer, steps
from tests.small_models import PAPER_ARCHITECTURES, small_model, small_tokenizer, text_pairs

REPOSITORY = Path(__file__).parents[3]

# bitsandbytes packs blocks of 64 weights: its layers need widths that are multiples of that.
WIDE: dict[str, dict[str, int]] = {
    **{name: {"n_embd": 64} for name in ("gpt2", "gptj", "gpt_bigcode")},
    **{name: {"hidden_size": 64, "intermediate_size": 128} for name in ("gpt_neox", "llama")},
}
TARGETS = {
    "gpt2": {"c_attn"},
    "gpt_bigcode": {"c_attn"},
    "gpt_neox": {"query_key_value"},
    "gptj": {"q_proj", "v_proj"},
    "llama": {"q_proj", "v_proj"},
}


def base(architecture: str) -> Any:
    return small_model(architecture, **WIDE[architecture])


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a model, its tokenizer and pairs; the test's parameter is the architecture."""
    architecture = getattr(request, "param", "llama")
    base(architecture).save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(12)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(folder: Path, output: str, *settings: str, model: str = "model") -> list[str]:
    every = ["use_cpu=true", "learning_rate=1e-2", "per_device_train_batch_size=4",
             "num_train_epochs=1", "logging_steps=1", "disable_tqdm=true", *settings]  # fmt: skip
    return [
        "train", "--model", str(folder / model), "--data", str(folder / "pairs.jsonl"),
        "--method", "sparsepo-common", "--output", str(folder / output),
        *(word for setting in every for word in ("--set", setting)),
    ]  # fmt: skip


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(1, 20)[None]).logits
    return found


def losses(output: Path) -> list[float]:
    state = json.loads(next(output.glob("checkpoint-*/trainer_state.json")).read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


# From the command line


@pytest.mark.parametrize("folder", PAPER_ARCHITECTURES, indirect=True)
def test_adapters_of_every_architecture(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Adapters with masks beside them, which load from anywhere; the base model is as it was."""
    architecture = request.node.callspec.params["folder"]
    monkeypatch.chdir(folder)
    words = command(Path(), "out", "lora_r=4")
    assert main(words) == 0
    monkeypatch.chdir("/")
    output = folder / "out"
    config = json.loads((output / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == TARGETS[architecture]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.0)
    assert not (output / "model.safetensors").exists()
    assert load_file(output / "masks.safetensors")
    assert json.loads((output / "method.json").read_text())["method"] == "sparsepo-common"
    start = logits(base(architecture))
    trained = [logits(kind.from_pretrained(output)) for kind in (
        AutoModelForCausalLM, AutoPeftModelForCausalLM)]  # fmt: skip
    assert torch.equal(*trained)
    assert (trained[0] - start).abs().max() > 1e-3
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder / "model")), start)
    assert losses(output)[0] == pytest.approx(0.6931472, abs=1e-5)


def test_settings_reach_the_adapters(folder: Path) -> None:
    settings = ["lora_r=3", "lora_alpha=7", "lora_dropout=0.25",
                "lora_target_modules=gate_proj+up_proj"]  # fmt: skip
    assert main(command(folder, "out", *settings)) == 0
    config = json.loads((folder / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 7, 0.25)
    assert set(config["target_modules"]) == {"gate_proj", "up_proj"}
    assert main(command(folder, "all", "lora_r=1", "lora_target_modules=all-linear")) == 0
    config = json.loads((folder / "all" / "adapter_config.json").read_text())
    assert len(config["target_modules"]) == 7


@pytest.mark.parametrize("folder", ["gpt2", "llama"], indirect=True)
def test_merged_adapters_are_a_plain_model(folder: Path) -> None:
    """The same numbers as base model and adapters, in one model without PEFT."""
    assert main(command(folder, "whole", "lora_r=4", "merge_adapters=true")) == 0
    assert main(command(folder, "adapters", "lora_r=4")) == 0
    names = {file.name for file in (folder / "whole").iterdir()}
    assert {"config.json", "model.safetensors", "masks.safetensors"} <= names
    assert "adapter_config.json" not in names
    whole, adapters = (
        logits(AutoModelForCausalLM.from_pretrained(folder / name))
        for name in ("whole", "adapters")
    )
    torch.testing.assert_close(whole, adapters, rtol=1e-4, atol=1e-4)


def test_adapters_are_a_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training goes on with them, and what they were is the reference."""
    assert main(command(folder, "first", "lora_r=4")) == 0
    assert main(command(folder, "second", model="first")) == 0
    assert losses(folder / "second")[0] == pytest.approx(0.6931472, abs=1e-5)
    first, second = (
        logits(AutoModelForCausalLM.from_pretrained(folder / name)) for name in ("first", "second")
    )
    assert (first - second).abs().max() > 1e-3
    capsys.readouterr()
    assert main(command(folder, "third", "lora_r=4", model="first")) == 2
    assert "already has adapters" in capsys.readouterr().err
    # A finished folder of adapters is not overwritten.
    assert main(command(folder, "first", "lora_r=4")) == 2
    assert "already contains a trained model" in capsys.readouterr().err


def test_an_interrupted_command_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = POTrainer.__init__

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **{**kwargs, "callbacks": [*(kwargs.get("callbacks") or ()), StopAt(2)]})

    settings = ["lora_r=4", "lora_dropout=0.1", "save_steps=1"]
    with monkeypatch.context() as patched:
        patched.setattr(POTrainer, "__init__", interrupted)
        # An InterruptedError is an OSError, which the command takes for a failing disk.
        assert main(command(folder, "broken", *settings)) == 2
    assert not (folder / "broken" / "adapter_config.json").exists()
    assert main(command(folder, "broken", *settings)) == 0
    assert main(command(folder, "whole", *settings)) == 0
    for name in ("adapter_model.safetensors", "masks.safetensors"):
        resumed, whole = (load_file(folder / o / name) for o in ("broken", "whole"))
        assert all(torch.equal(resumed[key], whole[key]) for key in whole)


# Quantized base models


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("folder", ["gpt2", "gpt_neox", "llama"], indirect=True)
def test_adapters_on_a_quantized_model(
    folder: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-ratio 0 at the start, adapters that move, a loss near the unquantized model's."""
    seen: list[POTrainer] = []
    train = POTrainer.train

    def watched(self: POTrainer, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return train(self, *args, **kwargs)

    monkeypatch.setattr(POTrainer, "train", watched)
    assert main(command(folder, "q", "lora_r=4", f"load_in_{bits}bit=true")) == 0
    assert main(command(folder, "plain", "lora_r=4")) == 0
    (trainer, _) = seen
    kinds = {type(module).__name__ for module in trainer.policy.modules()}
    assert f"Linear{'4bit' if bits == 4 else '8bitLt'}" in kinds
    trained = {n for n, weight in trainer.policy.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert trainer.reference.model is trainer.policy.get_base_model()
    found, plain = losses(folder / "q"), losses(folder / "plain")
    assert found[0] == pytest.approx(0.6931472, abs=1e-5)
    assert found[-1] == pytest.approx(plain[-1], abs=0.01)
    adapters = load_file(folder / "q" / "adapter_model.safetensors")
    assert any("lora_B" in name and value.any() for name, value in adapters.items())
    # The adapters were trained on quantized weights, and load onto those or the whole ones.
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder / "model"), str(folder / "q")
    )
    assert (logits(loaded) - logits(loaded.unload())).abs().max() > 1e-4
    # Scoring, which runs in evaluation mode, does not change what training computes.
    before = steps(trainer)[-1]["loss"]
    scores = trainer.score_pairs(text_pairs(4))
    assert trainer.score_pairs(text_pairs(4)) == scores
    assert before == found[-1]


def test_what_quantized_weights_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config: dict[str, Any] = {"output_dir": str(tmp_path), "method": "dpo", "use_cpu": True}
    with pytest.raises(UserError, match="exclude each other"):
        POConfig(**config, load_in_4bit=True, load_in_8bit=True)
    with pytest.raises(UserError, match="merge them into the unquantized base model"):
        POConfig(**config, load_in_4bit=True, lora_r=4, merge_adapters=True)
    with pytest.raises(UserError, match="load_in_8bit applies to loading a model"):
        make_trainer(tmp_path, "dpo", load_in_8bit=True, lora_r=4)
    with pytest.raises(UserError, match="model_dtype applies to loading a model"):
        make_trainer(tmp_path, "dpo", model_dtype="bfloat16")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    base("llama").save_pretrained(tmp_path / "model")
    with pytest.raises(UserError) as refused:
        load_policy(str(tmp_path / "model"), bits=4)
    assert str(refused.value).endswith(f"run `{BITSANDBYTES}`.")
    # The line installs what the extra does.
    requirement = BITSANDBYTES.split("'")[1]
    assert f'qlora = ["{requirement}"]' in (REPOSITORY / "pyproject.toml").read_text()


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
def test_quantized_weights_need_adapters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(folder, "out", "load_in_4bit=true")) == 2
    assert "4-bit weights cannot be trained directly; set lora_r" in capsys.readouterr().err


def test_the_dtype_that_a_model_is_loaded_in(folder: Path) -> None:
    assert main(command(folder, "out", "model_dtype=bfloat16", "max_steps=1")) == 0
    assert {v.dtype for v in load_file(folder / "out" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    masks = load_file(folder / "out" / "masks.safetensors")
    assert {value.dtype for value in masks.values()} == {torch.float32}


# What does not fit


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_alpha": 3}, "lora_alpha describes LoRA adapters; set lora_r too"),
        ({"lora_dropout": 0.1}, "lora_dropout describes LoRA adapters"),
        ({"lora_target_modules": "q_proj"}, "lora_target_modules describes LoRA adapters"),
        ({"lora_r": 0}, "lora_r must be at least 1"),
        ({"lora_r": 2, "lora_alpha": 0}, "lora_alpha must be at least 1"),
        ({"lora_r": "big"}, "lora_r must be a whole number"),
        ({"lora_r": 2, "lora_dropout": 1.0}, "lora_dropout must be at least 0 and below 1"),
        (
            {"model_dtype": "int8"},
            r"'int8'\. Choose one of: auto, float32, bfloat16, float16",
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        POConfig(output_dir=str(tmp_path), method="dpo", use_cpu=True, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_target_modules": "query"}, "name its projections in lora_target_modules"),
        ({"lora_target_modules": "lm_head"}, "output projection .* are not supported"),
    ],
    ids=str,
)
def test_modules_that_cannot_be_adapted(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make_trainer(tmp_path, "dpo", lora_r=2, **settings)


def test_adapters_that_training_would_pass_by(tmp_path: Path) -> None:
    tuned: Any = get_peft_model(
        small_model("llama"), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    with pytest.raises(UserError, match=r"Prompt learning .* not supported"):
        make_trainer(tmp_path, "dpo", model=tuned)
    native = small_model("llama")
    native.add_adapter(LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UserError, match=r"peft\.PeftModel\.from_pretrained"):
        make_trainer(tmp_path, "dpo", model=native)
    with pytest.raises(UserError, match="merge_adapters=true needs adapters; set lora_r too"):
        make_trainer(tmp_path, "dpo", merge_adapters=True)


def test_dropout_on_trained_adapters_is_no_start(tmp_path: Path) -> None:
    """With B = 0 it makes no difference; afterwards policy and reference differ by it."""
    for trained in (False, True):
        torch.manual_seed(0)
        model: Any = get_peft_model(
            small_model("llama"), LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.5)
        )
        if trained:
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.5)
        trainer = make_trainer(tmp_path, "dpo", model=model)
        if not trained:
            trainer.train()
            continue
        with pytest.raises(UserError, match="disable the adapters' dropout or merge"):
            trainer.train()


# The start that a reference keeps


@pytest.mark.parametrize(
    "options", [{}, {"use_dora": True}, {"init_lora_weights": "pissa"}], ids=str
)
def test_trained_adapters_keep_their_start(options: dict[str, Any]) -> None:
    """Bit for bit, whatever kind of LoRA; fresh adapters need no copy."""
    torch.manual_seed(0)
    model: Any = get_peft_model(
        small_model("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **options)
    )
    if not options:
        assert keep_start(model) is None
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.5)
    start = logits(model)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert keep_start(model) == "reference"
    assert torch.equal(logits(model), start)
    assert {n for n, weight in model.named_parameters() if weight.requires_grad} == trained
    for name, weight in model.named_parameters():
        if name in trained:
            weight.data.add_(0.1)
    assert (logits(model) - start).abs().max() > 1e-3
    model.set_adapter("reference", inference_mode=True)
    assert torch.equal(logits(model), start)
