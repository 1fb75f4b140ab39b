"""What POTrainer takes beside data: adapters, quantization, optimizers, metrics; and what it gives.

Data is in test_dataset.py, TRL's names in test_trl.py, the fields of the configuration in
test_arguments.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.trainer_utils import EvalPrediction

from sparsepo import POConfig, POTrainer, UserError
from tests.invariant.training import assert_same_weights, make_trainer, state
from tests.small_models import small_model, small_tokenizer, text_pairs


def trainer_of(model: Any, output: Path, method: str = "dpo", **more: Any) -> POTrainer:
    names = ("peft_config", "quantization_config", "optimizers", "optimizer_cls_and_kwargs",
             "compute_metrics", "eval_dataset", "processing_class", "ref_model")  # fmt: skip
    given = {name: more.pop(name) for name in names if name in more}
    settings = {"learning_rate": 1e-2, "max_steps": 2, "logging_steps": 1, "save_strategy": "no",
                "disable_tqdm": True, "use_cpu": True, "max_length": 64, **more}  # fmt: skip
    return POTrainer(
        model,
        args=POConfig(str(output), method=method, **settings),
        train_dataset=text_pairs(8),
        **{"processing_class": small_tokenizer(), **given},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    small_model("llama").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return str(folder)


# Adapters and quantization


@pytest.mark.parametrize("method", ["dpo", "sparsepo-common"])
def test_a_peft_config_is_the_same_as_wrapping_the_model(tmp_path: Path, method: str) -> None:
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    given = trainer_of(small_model("llama"), tmp_path / "given", method, peft_config=lora)
    assert isinstance(given.policy, PeftModel)
    given.train()
    model = small_model("llama")
    torch.manual_seed(42)
    wrapped = get_peft_model(model, lora)
    before = trainer_of(wrapped, tmp_path / "before", method)
    before.train()
    assert_same_weights(state(given), state(before))
    given.save_model(str(tmp_path / "out"))
    assert (tmp_path / "out" / "adapter_config.json").is_file()


def test_other_adapters_than_lora_are_trained_from_the_models_own_start(tmp_path: Path) -> None:
    ia3 = IA3Config(target_modules=["k_proj", "v_proj", "down_proj"],
                    feedforward_modules=["down_proj"], task_type="CAUSAL_LM")  # fmt: skip
    trainer = trainer_of(small_model("llama"), tmp_path, peft_config=ia3)
    start = state(trainer)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    moved = {name for name, value in state(trainer).items() if not torch.equal(value, start[name])}
    assert moved and all("ia3" in name for name in moved)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_config": {"r": 4}}, "peft_config is of type dict; give a peft.LoraConfig"),
        ({"peft_config": LoraConfig(r=4), "lora_r": 4}, "lora_r and peft_config both describe"),
        (
            {"peft_config": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)},
            "Prompt learning",
        ),
        ({"peft_config": LoraConfig(target_modules=["nothing"])}, "No adapters can be added"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantization_config is of type dict"),
        (
            {"quantization_config": BitsAndBytesConfig(load_in_4bit=True)},
            "quantization_config applies to loading a model; give its folder or id",
        ),
        (
            {"model_init_kwargs": {"revision": "main"}},
            "model_init_kwargs applies to loading a model",
        ),
        ({"trust_remote_code": True}, "trust_remote_code applies to loading a model"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trainer_of(small_model("llama"), tmp_path, **options)


def test_adapters_on_adapters_are_refused(tmp_path: Path) -> None:
    model = get_peft_model(small_model("llama"), LoraConfig(r=4))
    with pytest.raises(UserError, match="The model already has adapters"):
        trainer_of(model, tmp_path, peft_config=LoraConfig(r=4))


def test_a_quantization_config_loads_the_model_in_4_bits(tmp_path: Path, saved: str) -> None:
    pytest.importorskip("bitsandbytes")
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    with pytest.raises(UserError, match="4-bit weights cannot be trained directly"):
        trainer_of(saved, tmp_path, quantization_config=four_bits)
    with pytest.raises(UserError, match="both quantize the model"):
        trainer_of(saved, tmp_path, quantization_config=four_bits, load_in_8bit=True)
    trainer = trainer_of(
        saved, tmp_path, quantization_config=four_bits, peft_config=LoraConfig(r=4)
    )
    assert trainer.policy.is_loaded_in_4bit
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_arguments_of_from_pretrained_reach_it(
    tmp_path: Path, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM,
        "from_pretrained",
        lambda name, **options: seen.append(options) or load(name, **options),
    )
    for given in ({"revision": "main"}, '{"revision": "main"}'):
        trainer_of(saved, tmp_path, model_init_kwargs=given, processing_class=None,
                   trust_remote_code=True)  # fmt: skip
    for options in seen:
        assert options["revision"] == "main" and options["trust_remote_code"] is True
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("dtype", "model_dtype"), ("torch_dtype", "model_dtype"), ("attn_implementation", "attention"),
     ("device_map", "the trainer places"), ("quantization_config", "load_in_4bit")],
)  # fmt: skip
def test_arguments_that_have_a_name_of_their_own_are_sent_there(
    tmp_path: Path, saved: str, name: str, remedy: str
) -> None:
    with pytest.raises(UserError, match=f"model_init_kwargs cannot set {name}; .*{remedy}"):
        trainer_of(saved, tmp_path, model_init_kwargs={name: "auto"})
    trainer_of(saved, tmp_path, model_init_kwargs={name: None})


def test_a_model_on_several_devices_is_refused(tmp_path: Path) -> None:
    spread, sharded = small_model("llama"), small_model("llama")
    spread.hf_device_map = {"model": 0, "lm_head": 1}  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"placed on several devices \(0, 1\)"):
        trainer_of(spread, tmp_path)
    sharded._tp_size = 2  # type: ignore[assignment]
    with pytest.raises(UserError, match="was sharded when it was loaded"):
        trainer_of(sharded, tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="processing_class is of type str; give the tokenizer"):
        trainer_of(small_model("llama"), tmp_path, processing_class="gpt2")


# Optimizers


@pytest.mark.parametrize("method", ["dpo", "sparsepo-independent"])
def test_a_given_optimizer_is_used_and_holds_the_masks_too(tmp_path: Path, method: str) -> None:
    model = small_model("llama")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = trainer_of(model, tmp_path, method, optimizers=(optimizer, None))
    masks = state(trainer)
    trainer.train()
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in trainer.model.parameters()}
    for name, value in trainer.model.masks.state_dict().items():
        if name.endswith("mixer.weight"):
            assert not torch.equal(value, masks[f"masks.{name}"])


def test_a_given_schedule_is_used(tmp_path: Path) -> None:
    model = small_model("llama")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1**step)
    trainer = trainer_of(model, tmp_path, optimizers=(optimizer, schedule))
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates == pytest.approx([0.5, 0.05])
    with pytest.raises(UserError, match="does not cover the masks' weights"):
        trainer_of(model, tmp_path, "sparsepo-common", optimizers=(optimizer, schedule))


def test_an_optimizer_of_other_weights_is_refused(tmp_path: Path, saved: str) -> None:
    model = small_model("llama")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for other in (saved, model):
        options: dict[str, Any] = {} if other == saved else {"peft_config": LoraConfig(r=4)}
        with pytest.raises(UserError, match=r"The optimizer lacks \d+ of \d+ trained weights"):
            trainer_of(other, tmp_path, optimizers=(optimizer, None), **options)


def test_an_optimizers_class_is_used(tmp_path: Path) -> None:
    trainer = trainer_of(small_model("llama"), tmp_path, "sparsepo-common",
                         optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.5}))  # fmt: skip
    trainer.train()
    assert type(trainer.optimizer.optimizer) is torch.optim.SGD
    assert len(trainer.optimizer.param_groups) == 4


def test_training_may_be_called_twice(tmp_path: Path) -> None:
    trainer = trainer_of(small_model("llama"), tmp_path, "sparsepo-common")
    trainer.train()
    first = state(trainer)
    trainer.train()
    assert trainer.state.global_step == 2
    assert any(not torch.equal(value, first[name]) for name, value in state(trainer).items())


# Metrics, prediction, saving


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    chosen = np.argmax(prediction.predictions, axis=1) == prediction.label_ids
    assert prediction.losses is None or len(prediction.losses) == len(chosen)
    return {"share": float(chosen.mean()), "losses": prediction.losses is not None}


def test_metrics_are_computed_on_implicit_rewards(tmp_path: Path) -> None:
    trainer = trainer_of(small_model("llama"), tmp_path, compute_metrics=accuracy,
                         eval_dataset=text_pairs(5, seed=3), include_for_metrics=["loss"],
                         eval_strategy="steps", eval_steps=1, load_best_model_at_end=True,
                         save_strategy="steps", save_steps=1, metric_for_best_model="share",
                         lr_scheduler_type="constant", warmup_steps=0,
                         )  # fmt: skip
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_share"] == metrics["eval_rewards/accuracies"]
    assert metrics["eval_losses"] == 1
    assert {"eval_runtime", "eval_samples_per_second"} <= set(metrics)
    assert trainer.state.best_metric is not None


def test_prediction_gives_the_rewards_of_each_pair(tmp_path: Path) -> None:
    pairs = text_pairs(5, seed=3)
    trainer = trainer_of(small_model("llama"), tmp_path, compute_metrics=accuracy)
    trainer.train()
    found = trainer.predict(pairs)
    scores = trainer.score_pairs(pairs)
    expected = np.array([[score.chosen_reward, score.rejected_reward] for score in scores])
    assert np.array_equal(found.predictions, expected)
    assert found.label_ids.tolist() == [0] * 5
    assert found.metrics["test_share"] == found.metrics["test_rewards/accuracies"]
    bare = trainer_of(small_model("llama"), tmp_path, prediction_loss_only=True).predict(pairs)
    assert bare.predictions is None and bare.metrics["test_loss"] > 0


def test_callbacks_are_told_of_every_evaluation_batch(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    told: list[int] = []

    class Count(TrainerCallback):
        def on_prediction_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            told.append(len(kw["eval_dataloader"]))

    trainer = make_trainer(tmp_path, "dpo", callbacks=[Count()], per_device_eval_batch_size=2)
    trainer.evaluate(text_pairs(5, seed=3))
    assert told == [3, 3, 3]


def test_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    trainer = POTrainer(small_model("llama"), args=POConfig(str(tmp_path), use_cpu=True),
                        processing_class=small_tokenizer())  # fmt: skip
    with pytest.raises(UserError, match="nothing to train on; give the trainer a train_dataset"):
        trainer.train()
    assert trainer.evaluate(text_pairs(3))["eval_loss"] > 0
    with pytest.raises(UserError, match="at least one pair; give an eval_dataset"):
        trainer.evaluate()
