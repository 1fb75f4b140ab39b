"""A script that was written for TRL's DPOTrainer runs with POTrainer, and trains the same."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from sparsepo import POConfig, POTrainer, UserError
from sparsepo.methods import BUILT_IN
from sparsepo.training.trl_names import (
    LOSS_TYPES,
    OTHER_LOSS_TYPES,
    REFUSED,
    UNSUPPORTED_ARGUMENTS,
    TRLNames,
)
from tests.small_models import small_model, small_tokenizer, text_pairs

HAS_TRL = importlib.util.find_spec("trl") is not None

SCRIPT = """
import sys, json
from datasets import load_from_disk
from transformers import AutoModelForCausalLM, AutoTokenizer
from {package} import {trainer}, {config}

data = load_from_disk("{folder}/data")
tokenizer = AutoTokenizer.from_pretrained("{folder}/model")
model = AutoModelForCausalLM.from_pretrained("{folder}/model")
args = {config}(
    output_dir="{folder}/{package}", loss_type="sigmoid", beta=0.1, max_length=64,
    per_device_train_batch_size=4, num_train_epochs=1, learning_rate=1e-3, optim="sgd",
    lr_scheduler_type="constant", warmup_steps=0, logging_steps=1, gradient_checkpointing=True,
    eval_strategy="steps", eval_steps=2, save_strategy="no", bf16=False, report_to="none",
    disable_tqdm=True, use_cpu=True, seed=7,
)
trainer = {trainer}(model=model, args=args, train_dataset=data["train"],
                    eval_dataset=data["test"], processing_class=tokenizer)
trainer.train()
trainer.save_model("{folder}/{package}-model")
json.dump(trainer.state.log_history, open("{folder}/{package}.json", "w"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_model("llama", spread=1.0).save_pretrained(tmp_path / "model")
    tokenizer = small_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [
        # TRL tokenizes prompt and response as one text, and neither adds a BOS token here.
        {"prompt": f"{tokenizer.bos_token}{p.prompt}", "chosen": p.chosen, "rejected": p.rejected}
        for p in text_pairs(14, seed=4)
    ]
    datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_list(rows[:12]),
            "test": datasets.Dataset.from_list(rows[12:]),
        }
    ).save_to_disk(tmp_path / "data")
    return tmp_path


def run(folder: Path, package: str, trainer: str, config: str) -> list[dict[str, Any]]:
    """Run the script in a process of its own and return what it logged."""
    script = folder / f"train_with_{package}.py"
    script.write_text(SCRIPT.format(folder=folder, package=package, trainer=trainer, config=config))
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    logged: list[dict[str, Any]] = json.loads((folder / f"{package}.json").read_text())
    return logged


def test_the_script_runs_with_two_names_exchanged(folder: Path) -> None:
    ours = run(folder, "sparsepo", "POTrainer", "POConfig")
    losses = [entry["loss"] for entry in ours if "loss" in entry]
    assert len(losses) == 3
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert [entry["step"] for entry in ours if "eval_loss" in entry] == [2, 3]
    assert (folder / "sparsepo-model" / "model.safetensors").is_file()
    if not HAS_TRL:
        pytest.skip("trl is not installed (extra `benchmark`); only our side was run")
    theirs = run(folder, "trl", "DPOTrainer", "DPOConfig")
    compared = 0
    for mine, expected in zip(ours, theirs, strict=True):
        for name in ("loss", "grad_norm", "learning_rate", "rewards/margins", "rewards/accuracies",
                     "rewards/chosen", "eval_loss", "eval_rewards/margins"):  # fmt: skip
            if name in expected:
                assert mine[name] == pytest.approx(expected[name], rel=1e-4, abs=2e-6), name
                compared += 1
    assert compared >= 15


# Names


@pytest.mark.skipif(not HAS_TRL, reason="trl is not installed (extra `benchmark`)")
def test_every_field_of_dpo_config_is_a_field_here_with_trls_default_accepted() -> None:
    import trl
    from transformers import TrainingArguments

    base = {field.name for field in dataclasses.fields(TrainingArguments)}
    ours = set(POConfig.field_types())
    theirs = {field.name: field for field in dataclasses.fields(trl.DPOConfig)}
    assert set(theirs) <= ours, "trl.DPOConfig has a new field; add it to trl_names.py"
    given = {}
    for name in set(theirs) - base:
        field = theirs[name]
        factory = field.default_factory
        given[name] = field.default if factory is dataclasses.MISSING else factory()
    config = POConfig("out", use_cpu=True, **given)
    assert config.method == "dpo" and config.beta == 0.1


@pytest.mark.skipif(not HAS_TRL, reason="trl is not installed (extra `benchmark`)")
def test_every_argument_of_dpo_trainer_is_one_here_or_refused_by_name() -> None:
    import trl

    theirs = set(inspect.signature(trl.DPOTrainer.__init__).parameters)
    ours = set(inspect.signature(POTrainer.__init__).parameters)
    assert theirs - ours <= set(UNSUPPORTED_ARGUMENTS)


CHANGED: dict[str, Any] = {
    "dataset_num_proc": 4, "router_aux_loss_coef": 0.1, "pad_to_multiple_of": 8,
    "precompute_ref_batch_size": 2, "loss_weights": [0.5, 0.5], "ld_alpha": 0.5,
    "f_divergence_type": "js_divergence", "f_alpha_divergence_coef": 0.3, "label_smoothing": 0.1,
    "use_weighting": True, "discopop_tau": 0.1, "activation_offloading": True,
    "sync_ref_model": True, "ref_model_mixup_alpha": 0.5, "ref_model_sync_steps": 64,
    "pad_token": "<pad>", "loss_type": "ipo", "truncation_mode": "keep_end",
}  # fmt: skip


def test_a_value_is_given_for_every_name_that_can_be_refused() -> None:
    mapped = {"precompute_ref_log_probs", "padding_free"}
    assert set(CHANGED) | mapped == {field.name for field in dataclasses.fields(TRLNames)}
    assert set(REFUSED) <= set(CHANGED)


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_a_value_that_could_not_have_its_effect_is_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        POConfig("out", use_cpu=True, **{name: CHANGED[name]})
    text = str(caught.value)
    assert text.startswith(name) and text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(("loss_type", "method"), sorted(LOSS_TYPES.items()))
def test_a_loss_type_is_a_method(loss_type: str, method: str) -> None:
    for given in (loss_type, [loss_type]):
        assert POConfig("out", use_cpu=True, loss_type=given).method == method
    assert POConfig("out", use_cpu=True, loss_type=loss_type, method=method).method == method
    with pytest.raises(UserError, match="contradicts method=simpo"):
        POConfig("out", use_cpu=True, loss_type=loss_type, method="simpo")
    assert POConfig("out", use_cpu=True).method == "sparsepo-common"


@pytest.mark.parametrize(("loss_type", "method"), sorted(OTHER_LOSS_TYPES.items()))
def test_a_loss_type_with_other_defaults_names_its_method(loss_type: str, method: str) -> None:
    assert method in BUILT_IN
    with pytest.raises(UserError, match=f"^loss_type={loss_type} is method={method} here"):
        POConfig("out", use_cpu=True, loss_type=loss_type)


@pytest.mark.skipif(not HAS_TRL, reason="trl is not installed (extra `benchmark`)")
def test_every_loss_type_of_trl_has_a_method() -> None:
    import trl

    text = (
        str(inspect.getdoc(trl.DPOConfig))
        .partition("loss_type (")[2]
        .partition("loss_weights (")[0]
    )
    theirs = set(re.findall(r"`'(\w+)'`", text))
    assert theirs == set(LOSS_TYPES) | set(OTHER_LOSS_TYPES)


def test_several_losses_are_refused() -> None:
    with pytest.raises(UserError, match="a method has one"):
        POConfig("out", use_cpu=True, loss_type=["sigmoid", "sft"])


def test_truncation_and_the_reference_are_mapped() -> None:
    config = POConfig("out", use_cpu=True, method="dpo", truncation_mode="keep_start",
                      precompute_ref_log_probs=True, padding_free=True)  # fmt: skip
    assert config.on_long_response == "truncate"
    assert config.reference_cache == str(Path("out") / "reference_cache")
    with pytest.raises(UserError, match="contradict each other"):
        POConfig("out", use_cpu=True, truncation_mode="keep_start", on_long_response="skip")
    with pytest.raises(UserError, match="pads every row"):
        POConfig("out", use_cpu=True, padding_free=True, computation="plain")


def test_no_max_length_is_the_models_context(tmp_path: Path) -> None:
    trainer = POTrainer(
        small_model("llama"),
        args=POConfig(str(tmp_path), use_cpu=True, method="dpo", max_length=None),
        train_dataset=text_pairs(2),
        processing_class=small_tokenizer(),
    )
    assert trainer._max_length == 96


def argument_error(**given: Any) -> str:
    with pytest.raises(UserError) as caught:
        POTrainer("no-such-model", train_dataset=text_pairs(2), **given)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_ARGUMENTS))
def test_an_argument_of_another_trainer_is_refused_with_the_remedy(name: str) -> None:
    text = argument_error(**{name: object()})
    assert text.startswith(name) and text.endswith(".") and "\n" not in text


def test_an_argument_that_is_none_is_not_given(tmp_path: Path) -> None:
    POTrainer(
        small_model("llama"), args=POConfig(str(tmp_path), use_cpu=True, method="dpo"),
        train_dataset=text_pairs(2), processing_class=small_tokenizer(), data_collator=None,
    )  # fmt: skip


def test_a_field_of_the_configuration_is_sent_there() -> None:
    assert argument_error(beta=0.1) == (
        "beta belongs to the configuration; give args=POConfig(beta=…)."
    )
    assert argument_error(max_length=3).startswith("max_length belongs to the configuration")
    assert argument_error(train_datasets=3) == (
        "POTrainer has no argument 'train_datasets'. Did you mean 'train_dataset'?"
    )


def test_another_configuration_is_refused_by_its_name(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    text = argument_error(args=TrainingArguments(str(tmp_path), use_cpu=True))
    assert text == (
        "args is a TrainingArguments, which names no method; give POConfig(method=…, …), which has "
        "the same fields."
    )
